/** What a grant is, for people: who, what exactly, why, for how long. */
import type { AccessTerms, Grant, StepStatus } from "contract/jitaccess/v1/grant_pb";
import type { PrincipalSet } from "contract/jitaccess/v1/policy_pb";
import type { ComponentChildren } from "preact";

import { When } from "../parts/time";
import { Link } from "../router";
import { count, last, open, person } from "../words/text";
import { instant, span, spell } from "../words/time";

export function Patterns({ of, label }: { readonly of: readonly string[]; readonly label: string }) {
  return (
    <ul class="patterns" aria-label={label}>
      {of.map((pattern) => (
        <li key={pattern}>
          <code>{open(pattern)}</code>
          {pattern.includes("*") ? <span class="soft"> {explain(pattern)}</span> : null}
        </li>
      ))}
    </ul>
  );
}

/** What a pattern's wildcards reach, since `*` and `**` are easily taken for each other. */
export function explain(pattern: string): string {
  if (/(^|[./])\*\*$/.test(pattern)) {
    return pattern === "**" ? "everything" : "everything below";
  }
  return "any one name in place of *";
}

export function Facts({ children }: { readonly children: ComponentChildren }) {
  return <dl class="facts">{children}</dl>;
}

export function Fact({ name, children }: { readonly name: string; readonly children: ComponentChildren }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

export function GrantFacts({ grant, now }: { readonly grant: Grant; readonly now: number }) {
  const text = grant.justification?.text ?? "";
  return (
    <Facts>
      <Fact name="Who">
        {open(person(grant.subject))}
        {grant.requester !== grant.subject ? <span class="soft"> asked for by {open(person(grant.requester))}</span> : null}
      </Fact>
      <Fact name="May do"><Patterns of={grant.actions} label="Actions" /></Fact>
      <Fact name="On"><Patterns of={grant.resources} label="Resources" /></Fact>
      <Fact name="Why">
        {text === "" ? <span class="soft">no words given</span> : <p class="said">{open(text)}</p>}
        {grant.justification?.ticket ? <span>Ticket <code>{open(grant.justification.ticket)}</code></span> : null}
      </Fact>
      <Fact name="How long">
        {spell(span(grant.duration))}
        <Period grant={grant} now={now} />
      </Fact>
      {grant.requested ? <Fact name="Was asked for"><Terms terms={grant.requested} now={now} /></Fact> : null}
      <Fact name="Policy"><Link to={`/policies/${last(grant.policy)}`}>{last(grant.policy)}</Link></Fact>
      <Limits grant={grant} now={now} />
    </Facts>
  );
}

function Period({ grant, now }: { readonly grant: Grant; readonly now: number }) {
  const [start, end] = [instant(grant.startTime), instant(grant.expireTime)];
  if (end !== undefined) {
    return <span>, from <When at={start} now={now} /> until <When at={end} now={now} /></span>;
  }
  return start === undefined ? <span>, from the last approval on</span> : <span>, from <When at={start} now={now} /></span>;
}

function Limits({ grant, now }: { readonly grant: Grant; readonly now: number }) {
  return (
    <>
      {grant.maxUses > 0 ? <Fact name="Uses">{grant.uses} of {grant.maxUses}</Fact> : null}
      {grant.lastUseTime ? <Fact name="Last used"><When at={instant(grant.lastUseTime)} now={now} /></Fact> : null}
      {grant.breakGlass ? <Fact name="Emergency">taken without approval; the review is due <When at={instant(grant.reviewDueTime)} now={now} /></Fact> : null}
      {grant.parent ? <Fact name="Passed on from"><Link to={`/${grant.parent}`}>{last(grant.parent)}</Link></Fact> : null}
      {Object.keys(grant.labels).length > 0 ? <Fact name="Labels">{Object.entries(grant.labels).map(([key, value]) => <code key={key}>{open(`${key}=${value}`)} </code>)}</Fact> : null}
    </>
  );
}

export function Terms({ terms, now }: { readonly terms: AccessTerms; readonly now: number }) {
  return (
    <span class="terms">
      {terms.duration ? spell(span(terms.duration)) : null}
      {terms.startTime ? <span>, from <When at={instant(terms.startTime)} now={now} /></span> : null}
      {terms.actions.length > 0 ? <span>: <code>{open(terms.actions.join(", "))}</code></span> : null}
      {terms.resources.length > 0 ? <span> on <code>{open(terms.resources.join(", "))}</code></span> : null}
    </span>
  );
}

/** Who decides, step by step, and what each step still needs. */
export function Steps({ steps, now }: { readonly steps: readonly StepStatus[]; readonly now: number }) {
  if (steps.length === 0) {
    return <p class="soft">Nobody has to decide: the policy's rule did.</p>;
  }
  const waiting = steps.findIndex((step) => !step.skipped && step.approvalsRemaining > 0);
  return (
    <ol class="steps">
      {steps.map((step, at) => (
        <li key={at} class={at === waiting ? "waiting-step" : ""}>
          <strong>{open(step.displayName || `Step ${at + 1}`)}</strong> <span>{progress(step)}</span>
          {step.skipped ? null : <div class="soft">{who(step.approvers)}{step.escalated ? `, and since it was late ${who(step.escalateTo)}` : ""}</div>}
          {at === waiting && step.dueTime ? <div class="soft">{step.escalateTo ? "goes further up" : "lapses"} <When at={instant(step.dueTime)} now={now} /></div> : null}
        </li>
      ))}
    </ol>
  );
}

function progress(step: StepStatus): string {
  if (step.skipped) {
    return "is not needed here";
  }
  return step.approvalsRemaining === 0 ? "is done" : `needs ${count(step.approvalsRemaining, "approval")}${step.approvalsNeeded > 1 ? ` of ${step.approvalsNeeded}` : ""}`;
}

export function who(set: PrincipalSet | undefined): string {
  const people = (set?.principals ?? []).map((principal) => open(person(principal)));
  const groups = (set?.groups ?? []).map((group) => `anyone of ${open(group)}`);
  return [...people, ...groups].join(", ") || "nobody";
}
