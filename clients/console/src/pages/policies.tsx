/** Policies: what they say, what they would answer, what a draft would change, and changes that wait for a second admin. */
import { toJsonString } from "@bufbuild/protobuf";
import { type Policy, PolicySchema, type ReviewAssurance } from "contract/jitaccess/v1/policy_pb";
import { useState } from "preact/hooks";

import { call, policies } from "../api";
import { Fact, Facts, Patterns, who } from "../grant/facts";
import { useNow, useRead } from "../hooks";
import { reads, useMe } from "../me";
import { Empty, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { Draft } from "../policy/draft";
import { Proposals } from "../policy/proposals";
import { TestQuestion } from "../policy/try";
import { Link } from "../router";
import { count, last, open } from "../words/text";
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
  const [turn, setTurn] = useState(0);
  const all = useRead(everyPolicy, [turn]);
  const again = () => setTurn((before) => before + 1);
  return (
    <>
      {reads(me) ? <Proposals turn={turn} onChanged={again} /> : null}
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
      {reads(me) ? <Draft onChanged={again} /> : null}
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
