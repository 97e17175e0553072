/** What a grant's holder, and whoever may end it, can do with it. */
import type { Grant } from "contract/jitaccess/v1/grant_pb";
import { Grant_State as State } from "contract/jitaccess/v1/grant_pb";
import type { Policy } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { call, faultOf, grants, policies } from "../api";
import { useChange, useRead } from "../hooks";
import { Dialog } from "../parts/dialog";
import { DurationField } from "../parts/duration";
import { AreaField, TextField, wrongIn } from "../parts/field";
import { FaultNotice } from "../parts/notice";
import { duration, HOUR, MINUTE, span } from "../words/time";
import { summary } from "./decide";
import { isLive, waitsForMore } from "./state";

type Act = "extend" | "release" | "withdraw" | "accept" | "decline" | "revoke" | "review";

interface Said {
  readonly name: string;
  readonly etag: string;
  readonly comment: string;
}

/** Each is a word for the button, what it does, and the call. */
const ACTS: Record<Exclude<Act, "extend">, { word: string; does: string; tone: string; call: (said: Said, requestId: string) => Promise<unknown>; needsComment: boolean }> = {
  release: { word: "Give back", does: "The access ends at once.", tone: "stop", needsComment: false, call: (said, requestId) => grants.releaseGrant({ ...said, requestId }) },
  withdraw: { word: "Withdraw", does: "What waits for a decision is taken back.", tone: "stop", needsComment: false, call: (said, requestId) => grants.withdrawGrant({ ...said, requestId }) },
  accept: { word: "Accept the offer", does: "You take the offered terms; the offer counts as an approval.", tone: "go", needsComment: false, call: (said, requestId) => grants.acceptCounterOffer({ ...said, requestId }) },
  decline: { word: "Decline the offer", does: "The request stays as you made it, and goes on waiting.", tone: "stop", needsComment: false, call: (said, requestId) => grants.declineCounterOffer({ ...said, requestId }) },
  revoke: { word: "Revoke", does: "The access ends at once, and its holder reads why.", tone: "stop", needsComment: true, call: (said, requestId) => grants.revokeGrant({ ...said, requestId }) },
  review: { word: "Complete the review", does: "It closes the review that this emergency owes.", tone: "go", needsComment: true, call: (said, requestId) => grants.completeReview({ ...said, requestId }) },
};

/** What the caller can do with the grant, as far as the grant itself tells; the service decides. More time is tried. */
export function actsOf(grant: Grant, me: string): Act[] {
  const isMine = grant.requester === me || grant.subject === me;
  const found: Act[] = [];
  if (grant.counterOffer && grant.requester === me && grant.state === State.PENDING) {
    found.push("accept", "decline");
  }
  if (isMine && (grant.state === State.PENDING || waitsForMore(grant))) {
    found.push("withdraw");
  }
  if (isMine && grant.state === State.ACTIVE && !waitsForMore(grant) && !grant.parent) {
    found.push("extend");
  }
  if (isMine && isLive(grant)) {
    found.push("release");
  } else if (isLive(grant)) {
    found.push("revoke");
  }
  if (grant.breakGlass && !grant.useReview && !isMine) {
    found.push("review");
  }
  return found;
}

export function Acts({ grant, me, onDone }: { readonly grant: Grant; readonly me: string; readonly onDone: () => void }) {
  const [act, setAct] = useState<Act>();
  const close = () => setAct(undefined);
  const done = () => { close(); onDone(); };
  const acts = actsOf(grant, me);
  const isExtendable = useRead(() => (acts.includes("extend") ? canExtend(grant) : Promise.resolve(false)), [grant.etag, acts.join()]).answer ?? false;
  return (
    <>
      {acts.filter((each) => each !== "extend" || isExtendable).map((each) => (
        <button key={each} type="button" class={each === "extend" ? "" : ACTS[each].tone === "go" ? "go" : ""} onClick={() => setAct(each)}>
          {each === "extend" ? "Extend" : ACTS[each].word}
        </button>
      ))}
      {act === "extend" ? <Extend grant={grant} onClose={close} onDone={done} /> : act ? <Confirm grant={grant} act={act} onClose={close} onDone={done} /> : null}
    </>
  );
}

interface Props {
  readonly grant: Grant;
  readonly onClose: () => void;
  readonly onDone: () => void;
}

function Confirm({ grant, act, onClose, onDone }: Props & { readonly act: Exclude<Act, "extend"> }) {
  const { word, does, tone, call, needsComment } = ACTS[act];
  const [comment, setComment] = useState("");
  const change = useChange(call, onDone);
  const submit = (event: Event) => {
    event.preventDefault();
    void change.make({ name: grant.name, etag: grant.etag, comment });
  };
  return (
    <Dialog title={word} onClose={onClose}>
      <form onSubmit={submit}>
        <p class="summary">{summary(grant)}</p>
        <p>{does}</p>
        <AreaField label={needsComment ? "Why" : "Why (optional)"} value={comment} onText={setComment} required={needsComment} maxLength={4096} wrong={wrongIn(change.fault, "comment")} />
        <FaultNotice fault={change.fault} />
        <div class="actions">
          <button type="submit" class={tone} disabled={change.isBusy}>{word}</button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}

/** Whether the service would take a request for a second more. What only the form's words lack can be written there. */
async function canExtend(grant: Grant): Promise<boolean> {
  try {
    await call(() => grants.extendGrant({ name: grant.name, duration: duration(1000), validateOnly: true }));
    return true;
  } catch (thrown) {
    return Object.keys(faultOf(thrown).fields).some((field) => field.startsWith("justification"));
  }
}

/** What the policy leaves of the time in all; a day while it is not known. */
function mostMore(grant: Grant, policy: Policy | undefined): number {
  const whole = span(policy?.extension?.maxTotalDuration);
  return whole === 0 ? 24 * HOUR : Math.max(MINUTE, whole - span(grant.duration));
}

function Extend({ grant, onClose, onDone }: Props) {
  const policy = useRead(() => policies.getPolicy({ name: grant.policy }), [grant.policy]);
  const [more, setMore] = useState(Math.min(HOUR, span(grant.duration) || HOUR));
  const [text, setText] = useState("");
  const [ticket, setTicket] = useState("");
  const change = useChange(
    (given: { span: number; text: string; ticket: string }, requestId) =>
      grants.extendGrant({ name: grant.name, etag: grant.etag, requestId, duration: duration(given.span), justification: { text: given.text, ticket: given.ticket } }),
    onDone,
  );
  const submit = (event: Event) => {
    event.preventDefault();
    void change.make({ span: more, text, ticket });
  };
  return (
    <Dialog title="Ask for more time" onClose={onClose}>
      <form onSubmit={submit}>
        <p class="summary">{summary(grant)}</p>
        <DurationField label="How much more" least={MINUTE} most={mostMore(grant, policy.answer)} value={more} onSpan={setMore} wrong={wrongIn(change.fault, "duration")} />
        <AreaField label="Why" value={text} onText={setText} maxLength={4096} wrong={wrongIn(change.fault, "justification.text", "justification")} />
        <TextField label="Ticket (optional)" value={ticket} onText={setTicket} maxLength={256} wrong={wrongIn(change.fault, "justification.ticket")} />
        <FaultNotice fault={change.fault} />
        <div class="actions">
          <button type="submit" class="go" disabled={change.isBusy}>Ask</button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}
