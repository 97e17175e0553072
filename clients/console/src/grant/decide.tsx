/** A reviewer's decision. It is bound to the etag of what was shown, so nothing that has changed is decided blind. */
import type { Grant } from "contract/jitaccess/v1/grant_pb";
import type { Policy } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { grants } from "../api";
import { useChange, useNow, useSettled } from "../hooks";
import { Dialog } from "../parts/dialog";
import { DurationField } from "../parts/duration";
import { AreaField, TextField, wrongIn } from "../parts/field";
import { FaultNotice } from "../parts/notice";
import { open, person } from "../words/text";
import { duration, MINUTE, span, spell, timestamp, toLocalInput } from "../words/time";
import { type Edits, Outcome } from "./outcome";
import { waitsForMore } from "./state";

/** What is typed is tried once it has stood still for so many milliseconds. */
const TYPING = 400;

export type Decision = "approve" | "deny" | "less";

interface Props {
  readonly grant: Grant;
  readonly policy: Policy | undefined;
  readonly decision: Decision;
  readonly onClose: () => void;
  readonly onDone: () => void;
}

export function Decide(props: Props) {
  return props.decision === "less" ? <Less {...props} /> : <YesOrNo {...props} />;
}

function YesOrNo({ grant, policy, decision, onClose, onDone }: Props) {
  const now = useNow();
  const [comment, setComment] = useState("");
  const isYes = decision === "approve";
  const bound = { name: grant.name, etag: grant.etag, extensionRound: waitsForMore(grant) ? (grant.extension?.round ?? 0) : 0 };
  const change = useChange(
    (given: typeof bound & { comment: string }, requestId) => (isYes ? grants.approveGrant({ ...given, requestId }) : grants.denyGrant({ ...given, requestId })),
    onDone,
  );
  const isRequired = isYes ? policy?.reviewComment?.requiredToApprove : policy?.reviewComment?.requiredToDeny;
  const submit = (event: Event) => {
    event.preventDefault();
    void change.make({ ...bound, comment });
  };
  return (
    <Dialog title={`${isYes ? "Approve" : "Deny"}: ${open(person(grant.subject))}`} onClose={onClose}>
      <form onSubmit={submit}>
        <p class="summary">{summary(grant)}</p>
        {isYes ? <Outcome grant={grant} now={now} /> : null}
        <AreaField label={isRequired ? "Comment" : "Comment (optional)"} value={comment} onText={setComment} required={isRequired ?? false} maxLength={4096}
          help={commentHelp(policy)} wrong={wrongIn(change.fault, "comment")} />
        <FaultNotice fault={change.fault} />
        <div class="actions">
          <button type="submit" class={isYes ? "go" : "stop"} disabled={change.isBusy}>{isYes ? "Approve" : "Deny"}</button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}

function commentHelp(policy: Policy | undefined): string {
  const pattern = policy?.reviewComment?.pattern;
  return `The requester reads it.${pattern ? ` It must match ${pattern}` : ""}`;
}

/** One line of what is decided, so that the dialog stands for itself. */
export function summary(grant: Grant): string {
  const asked = waitsForMore(grant) ? `${spell(span(grant.extension?.duration))} more` : spell(span(grant.duration));
  return `${open(grant.actions.join(", "))} on ${open(grant.resources.join(", "))}, ${asked}`;
}

function Less({ grant, policy, onClose, onDone }: Props) {
  const asked = span(waitsForMore(grant) ? grant.extension?.duration : grant.duration);
  const isMore = waitsForMore(grant);
  const [length, setLength] = useState(asked);
  const [resources, setResources] = useState(grant.resources.join("\n"));
  const [actions, setActions] = useState(grant.actions.join("\n"));
  const [start, setStart] = useState("");
  const [comment, setComment] = useState("");
  const now = useNow();
  const edits: Edits = {
    ...(length === asked ? {} : { duration: duration(length) }),
    ...(isMore || resources === grant.resources.join("\n") ? {} : { resources: lines(resources) }),
    ...(isMore || actions === grant.actions.join("\n") ? {} : { actions: lines(actions) }),
    ...(start === "" ? {} : { startTime: timestamp(new Date(start).getTime()) }),
  };
  const settled = useSettled({ length, resources, actions, start, edits }, TYPING).edits;
  const terms = () => ({ ...edits, name: grant.name, etag: grant.etag, comment });
  type Given = ReturnType<typeof terms>;
  const give = useChange((given: Given, requestId) => grants.approveGrant({ ...given, requestId, extensionRound: isMore ? (grant.extension?.round ?? 0) : 0 }), onDone);
  const offer = useChange((given: Given, requestId) => grants.counterGrant({ ...given, requestId }), onDone);
  const fault = give.fault ?? offer.fault;
  const least = Math.min(asked, span(policy?.minDuration) || MINUTE);
  return (
    <Dialog title={`Give less: ${open(person(grant.subject))}`} onClose={onClose}>
      <form onSubmit={(event) => { event.preventDefault(); offer.forget(); void give.make(terms()); }}>
        <DurationField label="Shorter" least={least} most={asked} value={length} onSpan={setLength} wrong={wrongIn(fault, "duration")} />
        {isMore ? null : (
          <>
            <AreaField label="Fewer resources" value={resources} onText={setResources} rows={Math.min(6, grant.resources.length + 1)} help="One pattern a line, each within what was asked for." wrong={wrongIn(fault, "resources")} />
            <AreaField label="Fewer actions" value={actions} onText={setActions} rows={Math.min(6, grant.actions.length + 1)} help="One pattern a line, each within what was asked for." wrong={wrongIn(fault, "actions")} />
            <TextField label="Later (optional)" type="datetime-local" min={toLocalInput(Date.now())} value={start} onText={setStart} wrong={wrongIn(fault, "start_time")} />
          </>
        )}
        <AreaField label="Comment" value={comment} onText={setComment} maxLength={4096} help={commentHelp(policy)} wrong={wrongIn(fault, "comment")} />
        {fault === undefined ? <Outcome grant={grant} now={now} edits={settled} /> : <FaultNotice fault={fault} />}
        <div class="actions">
          <button type="submit" class="go" disabled={give.isBusy}>Approve with this</button>
          {isMore ? null : <button type="button" disabled={offer.isBusy} onClick={() => { give.forget(); void offer.make(terms()); }}>Offer this instead</button>}
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
        {isMore ? null : <p class="soft">An offer waits for the requester's yes, and then counts as your approval.</p>}
      </form>
    </Dialog>
  );
}

export function lines(text: string): string[] {
  return text.split("\n").map((line) => line.trim()).filter((line) => line !== "");
}
