/** Delegations: who decides in whose place, for a while. */
import type { Delegation } from "contract/jitaccess/v1/delegation_pb";
import { useState } from "preact/hooks";

import { delegations } from "../api";
import { lines } from "../grant/decide";
import { useChange, useNow, useRead } from "../hooks";
import { useMe } from "../me";
import { AreaField, TextField, wrongIn } from "../parts/field";
import { Empty, FaultNotice, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { last, open, person } from "../words/text";
import { DAY, instant, timestamp, toLocalInput } from "../words/time";

export function Delegations() {
  const now = useNow(10_000);
  const all = useRead(() => delegations.listDelegations({ pageSize: 1000 }), []);
  const again = () => void all.again();
  return (
    <>
      <Reading of={all}>
        {(answer) => answer.delegations.length === 0 ? <Empty>Nobody decides in your place, nor you in anybody's.</Empty> : <ul class="cards">{answer.delegations.map((each) => <One key={each.name} delegation={each} now={now} again={again} />)}</ul>}
      </Reading>
      <NewDelegation again={again} />
    </>
  );
}

function One({ delegation, now, again }: { readonly delegation: Delegation; readonly now: number; readonly again: () => void }) {
  const me = useMe();
  const remove = useChange((given: { name: string; etag: string }, requestId) => delegations.deleteDelegation({ ...given, requestId }), again);
  return (
    <li class="card">
      <div class="card-head"><strong>{open(person(delegation.delegate))}</strong> <span class={`badge ${delegation.active ? "good" : ""}`}>{delegation.active ? "Counts now" : "Does not count now"}</span></div>
      <p>decides for {open(person(delegation.delegator))}{delegation.policies.length > 0 ? `, under ${delegation.policies.map(last).join(", ")}` : ", under every policy"}</p>
      {delegation.comment ? <p class="said">{open(delegation.comment)}</p> : null}
      <p class="soft">from <When at={instant(delegation.startTime) ?? instant(delegation.createTime)} now={now} /> until <When at={instant(delegation.expireTime)} now={now} /></p>
      <FaultNotice fault={remove.fault} />
      {delegation.delegator === me.principal && !delegation.deleteTime ? <div class="actions"><button type="button" disabled={remove.isBusy} onClick={() => void remove.make({ name: delegation.name, etag: delegation.etag })}>Take it back from {open(person(delegation.delegate))}</button></div> : null}
    </li>
  );
}

function NewDelegation({ again }: { readonly again: () => void }) {
  const [delegate, setDelegate] = useState("");
  const [policies, setPolicies] = useState("");
  const [start, setStart] = useState("");
  const [end, setEnd] = useState(() => toLocalInput(Date.now() + 7 * DAY));
  const [comment, setComment] = useState("");
  const at = (text: string) => timestamp(new Date(text).getTime());
  const change = useChange(
    (given: { delegate: string; policies: string[]; start: string; end: string; comment: string }, requestId) =>
      delegations.createDelegation({ requestId, delegation: { delegate: given.delegate, policies: given.policies, comment: given.comment, expireTime: at(given.end), ...(given.start === "" ? {} : { startTime: at(given.start) }) } }),
    again,
  );
  const full = (name: string) => (name.startsWith("policies/") ? name : `policies/${name}`);
  return (
    <section class="panel">
      <h2>Let somebody decide in your place</h2>
      <form onSubmit={(event) => { event.preventDefault(); void change.make({ delegate: delegate.trim(), policies: lines(policies).map(full), start, end, comment }); }}>
        <TextField label="Who" value={delegate} onText={setDelegate} required placeholder="user:dave@example.com" wrong={wrongIn(change.fault, "delegation.delegate")} />
        <AreaField label="Under which policies (optional)" value={policies} onText={setPolicies} help="One name a line; none: every policy." wrong={wrongIn(change.fault, "delegation.policies")} />
        <TextField label="From (optional)" type="datetime-local" value={start} onText={setStart} wrong={wrongIn(change.fault, "delegation.start_time")} />
        <TextField label="Until" type="datetime-local" value={end} onText={setEnd} required wrong={wrongIn(change.fault, "delegation.expire_time")} />
        <AreaField label="Why (optional)" value={comment} onText={setComment} maxLength={4096} wrong={wrongIn(change.fault, "delegation.comment")} />
        <FaultNotice fault={change.fault} />
        <div class="actions"><button type="submit" class="go" disabled={change.isBusy}>Delegate</button></div>
      </form>
    </section>
  );
}
