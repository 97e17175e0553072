/** What becomes of policies by a change of them. */
import { toJsonString } from "@bufbuild/protobuf";
import { type PolicyChange, PolicyChange_ChangeType as Kind, PolicySchema } from "contract/jitaccess/v1/policy_pb";

import { Empty } from "../parts/notice";
import { last } from "../words/text";

/** Nothing has changed yet where this is shown. */
const VERBS: Partial<Record<Kind, string>> = { [Kind.CREATED]: "Creates", [Kind.UPDATED]: "Changes", [Kind.DELETED]: "Deletes" };

export function Changes({ of: given }: { readonly of: readonly PolicyChange[] }) {
  const changes = made(given);
  if (changes.length === 0) {
    return <Empty>No policy would change.</Empty>;
  }
  return (
    <ul class="short" aria-label="Changes">
      {changes.map((change) => (
        <li key={change.policy}>
          {VERBS[change.changeType]} <code>{last(change.policy)}</code>{change.changedFields.length > 0 ? `: ${change.changedFields.join(", ")}` : ""}
          <details><summary>Before and after</summary><div class="pair">{[change.before, change.after].map((policy, at) => <pre key={at} class="raw" tabIndex={0}>{policy ? toJsonString(PolicySchema, policy, { prettySpaces: 2 }) : "–"}</pre>)}</div></details>
        </li>
      ))}
    </ul>
  );
}

/** Those of the changes that change anything. */
export function made(changes: readonly PolicyChange[]): PolicyChange[] {
  return changes.filter((change) => change.changeType !== Kind.UNCHANGED);
}
