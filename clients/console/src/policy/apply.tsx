/** Applying a draft: what it would change is shown first, and applied is what was shown. */
import type { ApplyPoliciesResponse, Policy } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { policies } from "../api";
import { useChange, useRead } from "../hooks";
import { Dialog } from "../parts/dialog";
import { AreaField, wrongIn } from "../parts/field";
import { FaultNotice, Notice, Reading } from "../parts/notice";
import { Link } from "../router";
import { count, last, open, person } from "../words/text";
import { Changes, made } from "./changes";

interface Props {
  readonly draft: readonly Policy[];
  readonly prune: boolean;
  readonly onClose: () => void;
  readonly onDone: (applied: ApplyPoliciesResponse) => void;
}

export function Apply({ draft, prune, onClose, onDone }: Props) {
  const [comment, setComment] = useState("");
  const [endMisfits, setEndMisfits] = useState(false);
  const shown = useRead(() => policies.applyPolicies({ policies: [...draft], prune, endMisfits, validateOnly: true }), [endMisfits]);
  const change = useChange(async (given: { policies: Policy[]; prune: boolean; endMisfits: boolean; comment: string }, requestId) => {
    onDone(await policies.applyPolicies({ ...given, requestId }));
  });
  const answer = shown.isReading || shown.fault ? undefined : shown.answer;
  const changesNothing = answer !== undefined && made(answer.changes).length === 0 && !answer.misfits.some((misfit) => misfit.ended);
  const submit = (event: Event) => {
    event.preventDefault();
    if (answer !== undefined) {
      void change.make({ policies: bound(draft, answer), prune, endMisfits, comment });
    }
  };
  return (
    <Dialog title="Apply the draft" onClose={onClose}>
      <form onSubmit={submit}>
        <Reading of={shown}>{(would) => <><Changes of={would.changes} /><Misfits of={would} /></>}</Reading>
        <label class="check"><input type="checkbox" checked={endMisfits} onChange={(event) => setEndMisfits(event.currentTarget.checked)} /> End what is held now and would not be given any more</label>
        <AreaField label="Why (optional)" value={comment} onText={setComment} maxLength={4096} help="Under dual control another admin reads it, and must approve the change. Else it counts at once." wrong={wrongIn(change.fault, "comment")} />
        <FaultNotice fault={change.fault} />
        <div class="actions">
          <button type="submit" class="go" disabled={change.isBusy || answer === undefined || changesNothing}>Apply</button>
          <button type="button" onClick={onClose}>Cancel</button>
        </div>
      </form>
    </Dialog>
  );
}

/** The draft, bound to the policies that were shown as those before: whatever changed meanwhile is not overwritten blind. */
function bound(draft: readonly Policy[], shown: ApplyPoliciesResponse): Policy[] {
  const etags = new Map(shown.changes.map((change) => [change.policy, change.before?.etag ?? ""]));
  return draft.map((policy) => ({ ...policy, etag: policy.etag || (etags.get(`policies/${last(policy.name)}`) ?? "") }));
}

function Misfits({ of: would }: { readonly of: ApplyPoliciesResponse }) {
  if (would.misfitCount === 0) {
    return null;
  }
  const more = would.misfitCount - would.misfits.length;
  return (
    <Notice tone="warn">
      {count(would.misfitCount, "scheduled or live grant")} would not be given any more:
      <ul class="short">{would.misfits.map((misfit) => <li key={misfit.grant}><Link to={`/${misfit.grant}`}>{last(misfit.grant)}</Link> of {open(person(misfit.subject))} {misfit.ended ? "would end" : "goes on"}: {open(misfit.why)}</li>)}</ul>
      {more > 0 ? <p>… and {more} more</p> : null}
    </Notice>
  );
}

/** What has become of it. */
export function Applied({ of: applied }: { readonly of: ApplyPoliciesResponse }) {
  return applied.proposal === ""
    ? <Notice tone="good">{count(made(applied.changes).length, "policy has", "policies have")} changed.</Notice>
    : <Notice tone="warn">Nothing has changed yet: another admin must approve it, above on this page.</Notice>;
}
