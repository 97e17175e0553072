/** Policies: what they say, what they would answer, what a draft would change, and changes that wait for a second admin. */
import { toJsonString } from "@bufbuild/protobuf";
import { type Policy, type PolicyProposal, PolicyProposal_State as Proposed, PolicySchema, PolicyChange_ChangeType as Kind, type ReviewAssurance } from "contract/jitaccess/v1/policy_pb";

import { call, policies } from "../api";
import { Fact, Facts, Patterns, who } from "../grant/facts";
import { useChange, useNow, useRead } from "../hooks";
import { administers, reads, useMe } from "../me";
import { Empty, FaultNotice, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { Simulate, TestQuestion } from "../policy/try";
import { Link } from "../router";
import { count, last, open, person, sentence } from "../words/text";
import { instant, span, spell } from "../words/time";

export async function everyPolicy(): Promise<Policy[]> {
  const found: Policy[] = [];
  let pageToken = "";
  do {
    const page = await call(() => policies.listPolicies({ pageSize: 1000, pageToken }));
    found.push(...page.policies);
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found;
}

export function Policies() {
  const me = useMe();
  const all = useRead(everyPolicy, []);
  return (
    <>
      {reads(me) ? <Proposals /> : null}
      <Reading of={all}>
        {(answer) => answer.length === 0 ? <Empty>There is no policy that concerns you.</Empty> : (
          <ul class="cards">
            {answer.map((policy) => (
              <li key={policy.name} class="card">
                <div class="card-head"><Link to={`/${policy.name}`}>{open(policy.displayName || last(policy.name))}</Link>{policy.deny ? <span class="badge bad">Denies</span> : null}{policy.disabled ? <span class="badge">Off</span> : null}</div>
                <p class="soft"><code>{last(policy.name)}</code></p>
                <p>{who(policy.eligible)} may <code>{open(policy.actions.join(", "))}</code> on <code>{open(policy.resources.join(", "))}</code></p>
                {policy.deny ? null : <p>{policy.steps.length === 0 ? "Given at once" : count(policy.steps.length, "step")}{policy.maxDuration ? `, ${spell(span(policy.maxDuration))} at most` : ""}</p>}
              </li>
            ))}
          </ul>
        )}
      </Reading>
      {reads(me) ? <Simulate /> : null}
    </>
  );
}

export function OnePolicy({ id }: { readonly id: string }) {
  const me = useMe();
  const found = useRead(() => policies.getPolicy({ name: `policies/${id}` }), [id]);
  return (
    <Reading of={found}>
      {(policy) => (
        <article class="detail">
          <h2>{open(policy.displayName || id)}</h2>
          <PolicyFacts policy={policy} />
          {policy.deny ? null : <p><Link to={`/ask?policy=${encodeURIComponent(id)}`} class="button">Ask under it</Link></p>}
          <details><summary>As the API has it</summary><pre class="raw" tabIndex={0}>{toJsonString(PolicySchema, policy, { prettySpaces: 2 })}</pre></details>
          {reads(me) ? <TestQuestion policy={policy} /> : null}
        </article>
      )}
    </Reading>
  );
}

function PolicyFacts({ policy }: { readonly policy: Policy }) {
  const now = useNow(60_000);
  const conditions: [string, string][] = [["Asked for only where", policy.requestCondition], ["Counts only while", policy.checkCondition]];
  return (
    <Facts>
      <Fact name={policy.deny ? "Denies" : "Who may ask"}>{who(policy.eligible)}</Fact>
      <Fact name="May do"><Patterns of={policy.actions} label="Actions" /></Fact>
      <Fact name="On"><Patterns of={policy.resources} label="Resources" /></Fact>
      {policy.maxDuration ? <Fact name="How long">{policy.minDuration ? `${spell(span(policy.minDuration))} to ` : "up to "}{spell(span(policy.maxDuration))}</Fact> : null}
      {policy.deny ? null : (
        <Fact name="Who decides">
          {policy.steps.length === 0 ? "Nobody: it is given at once." : (
            <ol class="steps">{policy.steps.map((step, at) => <li key={at}><strong>{open(step.displayName || `Step ${at + 1}`)}</strong>: {count(step.approvalsNeeded || 1, "approval")} of {who(step.approvers)}{step.condition ? <div class="soft">only where <code>{open(step.condition)}</code></div> : null}</li>)}</ol>
          )}
        </Fact>
      )}
      {policy.reviewAssurance ? <Fact name="Approvers log in"><LogInRule of={policy.reviewAssurance} /></Fact> : null}
      {policy.maxUses > 0 ? <Fact name="Uses">{policy.maxUses} at most</Fact> : null}
      {policy.idleTimeout ? <Fact name="Ends early">after {spell(span(policy.idleTimeout))} without use</Fact> : null}
      {policy.warnBefore ? <Fact name="Warns">{spell(span(policy.warnBefore))} before the end</Fact> : null}
      {conditions.filter(([, text]) => text !== "").map(([name, text]) => <Fact key={name} name={name}><code>{open(text)}</code></Fact>)}
      {policy.breakGlass ? <Fact name="Emergency">{who(policy.breakGlass.eligible)}, {spell(span(policy.breakGlass.maxDuration))} at most, reviewed within {spell(span(policy.breakGlass.reviewWithin))}</Fact> : null}
      {policy.extension ? <Fact name="More time">{count(policy.extension.maxExtensions, "time")}, {spell(span(policy.extension.maxTotalDuration))} in all</Fact> : null}
      <Fact name="Changed"><When at={instant(policy.updateTime)} now={now} />, revision {`${policy.revision}`}</Fact>
    </Facts>
  );
}

/** How strongly and how lately whoever approves must have logged in. */
function LogInRule({ of: rule }: { readonly of: ReviewAssurance }) {
  return (
    <ul class="patterns" aria-label="What the log-in must be">
      {rule.acr.length > 0 ? <li>with acr {rule.acr.map((acr, at) => <span key={acr}>{at > 0 ? " or " : ""}<code>{open(acr)}</code></span>)}</li> : null}
      {rule.amr.length > 0 ? <li>with amr {rule.amr.map((amr, at) => <span key={amr}>{at > 0 ? " and " : ""}<code>{open(amr)}</code></span>)}</li> : null}
      {rule.maxAge ? <li>within the last {spell(span(rule.maxAge))}</li> : null}
    </ul>
  );
}

function Proposals() {
  const waiting = useRead(() => policies.listPolicyProposals({ pageSize: 50 }), []);
  const open_ = (waiting.answer?.policyProposals ?? []).filter((proposal) => proposal.state === Proposed.PENDING);
  return (
    <>
      <FaultNotice fault={waiting.fault} />
      {open_.length > 0 ? <section><h2>Changes that wait for a second admin</h2><ul class="cards">{open_.map((each) => <Proposal key={each.name} of={each} again={() => void waiting.again()} />)}</ul></section> : null}
    </>
  );
}

function Proposal({ of: proposal, again }: { readonly of: PolicyProposal; readonly again: () => void }) {
  const me = useMe();
  const now = useNow(10_000);
  const bound = { name: proposal.name, etag: proposal.etag };
  const approve = useChange((given: typeof bound, requestId) => policies.approvePolicyProposal({ ...given, requestId }), again);
  const reject = useChange((given: typeof bound, requestId) => policies.rejectPolicyProposal({ ...given, requestId }), again);
  return (
    <li class="card">
      <p>{open(person(proposal.proposer))}, <When at={instant(proposal.createTime)} now={now} /></p>
      {proposal.comment ? <p class="said">{open(proposal.comment)}</p> : null}
      <ul>{proposal.changes.filter((change) => change.changeType !== Kind.UNCHANGED).map((change) => (
        <li key={change.policy}>
          {sentence(Kind[change.changeType])} <code>{last(change.policy)}</code>{change.changedFields.length > 0 ? `: ${change.changedFields.join(", ")}` : ""}
          <details><summary>Before and after</summary><div class="pair">{[change.before, change.after].map((policy, at) => <pre key={at} class="raw" tabIndex={0}>{policy ? toJsonString(PolicySchema, policy, { prettySpaces: 2 }) : "–"}</pre>)}</div></details>
        </li>
      ))}</ul>
      <FaultNotice fault={approve.fault ?? reject.fault} />
      {administers(me) ? (
        <div class="actions">
          {proposal.proposer === me.principal ? <p class="soft">Another admin approves it.</p> : <button type="button" class="go" disabled={approve.isBusy} onClick={() => void approve.make(bound)}>Approve the change</button>}
          <button type="button" disabled={reject.isBusy} onClick={() => void reject.make(bound)}>Reject it</button>
        </div>
      ) : null}
    </li>
  );
}
