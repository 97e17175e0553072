/** Asking for access, in a form made of the policy. What would become of it is shown while it is filled in. */
import { type Grant, Grant_State as State } from "contract/jitaccess/v1/grant_pb";
import type { Policy } from "contract/jitaccess/v1/policy_pb";
import { useMemo, useState } from "preact/hooks";

import { call, grants, policies } from "../api";
import { explain, who } from "../grant/facts";
import { useChange, useRead, useSettled } from "../hooks";
import { DurationField } from "../parts/duration";
import { AreaField, Field, TextField, wrongIn } from "../parts/field";
import { Empty, FaultNotice, Notice, Reading } from "../parts/notice";
import { go, query } from "../router";
import { count, last, open } from "../words/text";
import { DAY, duration, HOUR, MINUTE, span, spell, timestamp, toLocalInput } from "../words/time";
import { lines } from "../grant/decide";

const TYPING = 300;

export function Ask() {
  const offered = useRead(() => offers(), []);
  return (
    <Reading of={offered}>
      {(answer) => (answer.length === 0 ? <Empty>There is no policy under which you may ask for anything.</Empty> : <Form offers={answer} />)}
    </Reading>
  );
}

/** The policies that the service shows the caller, without those that only deny. */
async function offers(): Promise<Policy[]> {
  const found: Policy[] = [];
  let pageToken = "";
  do {
    const page = await call(() => policies.listPolicies({ pageSize: 1000, pageToken }));
    found.push(...page.policies.filter((policy) => !policy.deny && !policy.disabled));
    pageToken = page.nextPageToken;
  } while (pageToken !== "");
  return found.sort((one, other) => title(one).localeCompare(title(other)));
}

function title(policy: Policy): string {
  return policy.displayName || last(policy.name);
}

interface Wanted {
  readonly policy: string;
  readonly resources: string;
  readonly actions: string;
  readonly length: number;
  readonly text: string;
  readonly ticket: string;
  readonly start: string;
  readonly subject: string;
  readonly emergency: boolean;
}

function wantedUnder(policy: Policy, before?: Wanted): Wanted {
  const literal = (patterns: readonly string[]) => patterns.filter((pattern) => !pattern.includes("*"));
  return {
    policy: policy.name,
    resources: query("resource") || literal(policy.resources)[0] || "",
    actions: query("action") || literal(policy.actions)[0] || "",
    length: span(policy.defaultDuration) || Math.min(HOUR, most(policy)),
    text: before?.text ?? "",
    ticket: before?.ticket ?? "",
    start: "",
    subject: "",
    emergency: false,
  };
}

function most(policy: Policy): number {
  return span(policy.maxDuration) || DAY;
}

function request(wanted: Wanted) {
  return {
    policy: wanted.policy,
    subject: wanted.subject.trim(),
    resources: lines(wanted.resources),
    actions: lines(wanted.actions),
    duration: duration(wanted.length),
    justification: { text: wanted.text, ticket: wanted.ticket },
    breakGlass: wanted.emergency,
    ...(wanted.start === "" ? {} : { startTime: timestamp(new Date(wanted.start).getTime()) }),
  };
}

function Form({ offers: all }: { readonly offers: readonly Policy[] }) {
  const first = all.find((policy) => last(policy.name) === query("policy")) ?? all[0];
  const [wanted, setWanted] = useState<Wanted>(() => wantedUnder(first as Policy));
  const policy = all.find((each) => each.name === wanted.policy) ?? (first as Policy);
  const set = (change: Partial<Wanted>) => setWanted((before) => ({ ...before, ...change }));
  const settled = useSettled(wanted, TYPING);
  const isReady = lines(settled.resources).length > 0 && lines(settled.actions).length > 0;
  const dry = useRead(async () => (isReady ? grants.requestGrant({ ...request(settled), validateOnly: true }) : undefined), [JSON.stringify(settled)]);
  const ask = useChange(async (given: ReturnType<typeof request>, requestId) => go(`/${(await grants.requestGrant({ ...given, requestId })).name}`));
  const fault = ask.fault ?? dry.fault;
  return (
    <div class="split ask">
      <form onSubmit={(event) => { event.preventDefault(); void ask.make(request(wanted)); }}>
        <Field label="What for" help={policy.displayName ? last(policy.name) : ""}>
          {(attributes) => (
            <select value={wanted.policy} onChange={(event) => setWanted(wantedUnder(all.find((each) => each.name === event.currentTarget.value) ?? policy, wanted))} {...attributes}>
              {all.map((each) => <option key={each.name} value={each.name}>{title(each)}</option>)}
            </select>
          )}
        </Field>
        <Scope policy={policy} wanted={wanted} set={set} fault={fault} />
        <DurationField label="How long" least={span(policy.minDuration) || MINUTE} most={wanted.emergency ? span(policy.breakGlass?.maxDuration) || most(policy) : most(policy)} value={wanted.length} onSpan={(length) => set({ length })} wrong={wrongIn(fault, "duration")} />
        <Reasons policy={policy} wanted={wanted} set={set} fault={fault} />
        <FaultNotice fault={ask.fault} />
        <div class="actions"><button type="submit" class={wanted.emergency ? "stop" : "go"} disabled={ask.isBusy || !isReady}>{wanted.emergency ? "Take it now" : "Ask"}</button></div>
      </form>
      <aside aria-label="What would become of it" aria-live="polite" class="panel">
        <h2>What would become of it</h2>
        {!isReady ? <p class="soft">Say which resources and actions.</p> : dry.fault ? <FaultNotice fault={dry.fault} /> : dry.answer ? <Outcome of={dry.answer} /> : <p class="soft">Asking …</p>}
        <PolicyWords policy={policy} />
      </aside>
    </div>
  );
}

interface PartProps {
  readonly policy: Policy;
  readonly wanted: Wanted;
  readonly set: (change: Partial<Wanted>) => void;
  readonly fault: ReturnType<typeof useRead>["fault"];
}

function Scope({ policy, wanted, set, fault }: PartProps) {
  const literal = useMemo(() => policy.actions.filter((action) => !action.includes("*")), [policy]);
  const chosen = lines(wanted.actions);
  const toggle = (action: string) => set({ actions: (chosen.includes(action) ? chosen.filter((each) => each !== action) : [...chosen, action]).join("\n") });
  return (
    <>
      <AreaField label="On which resources" value={wanted.resources} onText={(resources) => set({ resources })} rows={Math.max(2, Math.min(6, lines(wanted.resources).length + 1))} class="code" wrong={wrongIn(fault, "resources")}
        help={<Within patterns={policy.resources} onUse={(pattern) => set({ resources: pattern })} />} />
      {literal.length === policy.actions.length && literal.length <= 12 ? (
        <fieldset class="choices">
          <legend>To do what</legend>
          {literal.map((action) => (
            <label key={action}><input type="checkbox" checked={chosen.includes(action)} onChange={() => toggle(action)} /> <code>{open(action)}</code></label>
          ))}
          {wrongIn(fault, "actions") ? <p class="wrong">{wrongIn(fault, "actions")}</p> : null}
        </fieldset>
      ) : (
        <AreaField label="To do what" value={wanted.actions} onText={(actions) => set({ actions })} class="code" wrong={wrongIn(fault, "actions")}
          help={<Within patterns={policy.actions} onUse={(pattern) => set({ actions: pattern })} />} />
      )}
    </>
  );
}

/** The policy's patterns, each to take over and to make narrower, with what its wildcards mean. */
function Within({ patterns, onUse }: { readonly patterns: readonly string[]; readonly onUse: (pattern: string) => void }) {
  return (
    <span>
      One a line, each within{" "}
      {patterns.map((pattern) => (
        <span key={pattern}>
          <button type="button" class="chip" onClick={() => onUse(pattern)}><code>{open(pattern)}</code></button>
          {pattern.includes("*") ? ` (${explain(pattern)}) ` : " "}
        </span>
      ))}
    </span>
  );
}

function Reasons({ policy, wanted, set, fault }: PartProps) {
  const rule = policy.justification;
  const isNeeded = (rule?.required ?? false) || wanted.emergency;
  return (
    <>
      <AreaField label={isNeeded ? "Why" : "Why (optional)"} value={wanted.text} onText={(text) => set({ text })} required={isNeeded} maxLength={4096} rows={3} help={rule?.pattern ? `It must match ${rule.pattern}` : ""} wrong={wrongIn(fault, "justification.text", "justification")} />
      {rule?.ticketRequired || rule?.ticketPattern || wanted.ticket ? (
        <TextField label={rule?.ticketRequired ? "Ticket" : "Ticket (optional)"} value={wanted.ticket} onText={(ticket) => set({ ticket })} required={rule?.ticketRequired ?? false} maxLength={256} help={rule?.ticketPattern ? `Written as ${rule.ticketPattern}` : ""} wrong={wrongIn(fault, "justification.ticket")} />
      ) : null}
      <details>
        <summary>More</summary>
        <TextField label="Not before (optional)" type="datetime-local" min={toLocalInput(Date.now())} value={wanted.start} onText={(start) => set({ start })} wrong={wrongIn(fault, "start_time")} />
        <TextField label="For somebody else (optional)" value={wanted.subject} onText={(subject) => set({ subject })} placeholder="service:build-bot" help="The policy must name them." wrong={wrongIn(fault, "subject")} />
        {policy.breakGlass ? (
          <label class="check"><input type="checkbox" checked={wanted.emergency} onChange={(event) => set({ emergency: event.currentTarget.checked })} /> It is an emergency: take it without approval, for {spell(span(policy.breakGlass.maxDuration))} at most. A review is owed afterwards.</label>
        ) : null}
      </details>
    </>
  );
}

function Outcome({ of: grant }: { readonly of: Grant }) {
  const preview = grant.preview;
  const words: Partial<Record<State, string>> = {
    [State.ACTIVE]: `You have it at once, for ${spell(span(grant.duration))}.`,
    [State.SCHEDULED]: "It is yours from its start on; nobody has to decide.",
    [State.PENDING]: `It waits for ${count(preview?.steps.length ?? 0, "decision")}.`,
  };
  return (
    <>
      <Notice tone={preview && !preview.satisfiable ? "bad" : grant.state === State.PENDING ? "plain" : "good"}>
        {preview && !preview.satisfiable ? `Nobody could approve it: ${open(preview.shortfall)}` : words[grant.state]}
      </Notice>
      <p>Under <strong>{last(grant.policy)}</strong></p>
      {preview && preview.steps.length > 0 ? (
        <ol class="steps">
          {preview.steps.map((step, at) => (
            <li key={at}>
              <strong>{open(step.displayName || `Step ${at + 1}`)}</strong> {count(step.approvalsNeeded || 1, "approval")} of {who(step.approvers)}
              {step.excluded.length > 0 ? <div class="soft">not by {step.excluded.map(open).join(", ")}, who asks or would hold it</div> : null}
              {step.condition ? <div class="soft">only where <code>{open(step.condition)}</code></div> : null}
            </li>
          ))}
        </ol>
      ) : null}
    </>
  );
}

function PolicyWords({ policy }: { readonly policy: Policy }) {
  const words = [
    policy.maxUses > 0 ? `allows ${count(policy.maxUses, "use")} at most` : "",
    policy.idleTimeout ? `ends after ${spell(span(policy.idleTimeout))} without use` : "",
    policy.extension ? `can be extended ${count(policy.extension.maxExtensions, "time")}, to ${spell(span(policy.extension.maxTotalDuration))} in all` : "",
    policy.requestCondition ? `can be asked for only where ${open(policy.requestCondition)}` : "",
    policy.checkCondition ? `counts only while ${open(policy.checkCondition)}` : "",
  ].filter((each) => each !== "");
  return words.length === 0 ? null : <ul class="soft">{words.map((each) => <li key={each}>The access {each}.</li>)}</ul>;
}
