/** Changes of policies under dual control: those that wait for a second admin, and what became of the others. */
import { type PolicyProposal, PolicyProposal_State as State } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { policies } from "../api";
import { useChange, useNow, useRead } from "../hooks";
import { administers, useMe } from "../me";
import { TextField, wrongIn } from "../parts/field";
import { FaultNotice } from "../parts/notice";
import { When } from "../parts/time";
import { last, open, person, sentence } from "../words/text";
import { instant } from "../words/time";
import { Changes, made } from "./changes";

interface Props {
  /** It is read again when this changes. */
  readonly turn: number;
  readonly onChanged: () => void;
}

export function Proposals({ turn, onChanged }: Props) {
  const found = useRead(() => policies.listPolicyProposals({ pageSize: 50 }), [turn]);
  const all = found.answer?.policyProposals ?? [];
  const waiting = all.filter((proposal) => proposal.state === State.PENDING);
  const over = all.filter((proposal) => proposal.state !== State.PENDING);
  return (
    <>
      <FaultNotice fault={found.fault} />
      {waiting.length > 0 ? <section><h2>Changes that wait for a second admin</h2><ul class="cards">{waiting.map((each) => <Waiting key={each.name} of={each} onChanged={onChanged} />)}</ul></section> : null}
      {over.length > 0 ? <details><summary>Earlier proposals</summary><ul class="cards">{over.map((each) => <Over key={each.name} of={each} />)}</ul></details> : null}
    </>
  );
}

function Waiting({ of: proposal, onChanged }: { readonly of: PolicyProposal; readonly onChanged: () => void }) {
  const me = useMe();
  const now = useNow(10_000);
  const [comment, setComment] = useState("");
  const decision = { name: proposal.name, etag: proposal.etag, comment };
  const approve = useChange((given: typeof decision, requestId) => policies.approvePolicyProposal({ ...given, requestId }), onChanged);
  const reject = useChange((given: typeof decision, requestId) => policies.rejectPolicyProposal({ ...given, requestId }), onChanged);
  const fault = approve.fault ?? reject.fault;
  const isMine = proposal.proposer === me.principal;
  return (
    <li class="card">
      <Proposed of={proposal} now={now} />
      <p class="soft">It lapses <When at={instant(proposal.expireTime)} now={now} />.</p>
      <Changes of={proposal.changes} />
      {proposal.endMisfits ? <p>It ends what is held and would not be given any more.</p> : null}
      {administers(me) ? (
        <>
          <TextField label="Comment (optional)" value={comment} onText={setComment} maxLength={4096} wrong={wrongIn(fault, "comment")} />
          <FaultNotice fault={fault} />
          {isMine ? <p class="soft">You proposed it, so another admin must approve it.</p> : null}
          <div class="actions">
            {isMine ? null : <button type="button" class="go" disabled={approve.isBusy} onClick={() => { reject.forget(); void approve.make(decision); }}>Approve the change</button>}
            <button type="button" disabled={reject.isBusy} onClick={() => { approve.forget(); void reject.make(decision); }}>Reject it</button>
          </div>
        </>
      ) : null}
    </li>
  );
}

function Proposed({ of: proposal, now }: { readonly of: PolicyProposal; readonly now: number }) {
  return (
    <>
      <p>{open(person(proposal.proposer))}, <When at={instant(proposal.createTime)} now={now} /></p>
      {proposal.comment ? <p class="said">{open(proposal.comment)}</p> : null}
    </>
  );
}

function Over({ of: proposal }: { readonly of: PolicyProposal }) {
  const now = useNow(60_000);
  return (
    <li class="card">
      <div class="card-head"><strong>{made(proposal.changes).map((change) => last(change.policy)).join(", ") || "No policy"}</strong> <span class={`badge ${proposal.state === State.APPROVED ? "good" : ""}`}>{sentence(State[proposal.state])}</span></div>
      <Proposed of={proposal} now={now} />
      {proposal.decidedBy ? <p>{sentence(State[proposal.state])} by {open(person(proposal.decidedBy))}, <When at={instant(proposal.decideTime)} now={now} /></p> : null}
      {proposal.decideComment ? <p class="said">{open(proposal.decideComment)}</p> : null}
    </li>
  );
}
