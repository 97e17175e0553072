/** Locks: who may do nothing for now, whatever was granted. */
import type { Lock } from "contract/jitaccess/v1/lock_pb";
import { useState } from "preact/hooks";

import { locks } from "../api";
import { useChange, useNow, useRead } from "../hooks";
import { responds, useMe } from "../me";
import { AreaField, Field, TextField, wrongIn } from "../parts/field";
import { Empty, FaultNotice, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { open, person } from "../words/text";
import { instant, timestamp, toLocalInput } from "../words/time";

type Kind = "principal" | "group" | "jti";
const KINDS: Record<Kind, string> = { principal: "A person or service", group: "A group", jti: "A token" };

export function Locks() {
  const me = useMe();
  const now = useNow(10_000);
  const all = useRead(() => locks.listLocks({ pageSize: 1000 }), []);
  const again = () => void all.again();
  return (
    <>
      <Reading of={all}>
        {(answer) => answer.locks.length === 0 ? <Empty>Nobody is locked.</Empty> : <ul class="cards">{answer.locks.map((lock) => <One key={lock.name} lock={lock} now={now} again={again} />)}</ul>}
      </Reading>
      {responds(me) ? <NewLock again={again} /> : null}
    </>
  );
}

function One({ lock, now, again }: { readonly lock: Lock; readonly now: number; readonly again: () => void }) {
  const me = useMe();
  const remove = useChange((given: { name: string; etag: string }, requestId) => locks.deleteLock({ ...given, requestId }), again);
  const target = lock.target.value ?? "";
  return (
    <li class="card">
      <div class="card-head"><strong>{open(person(target))}</strong> <span class={`badge ${lock.active ? "bad" : ""}`}>{lock.active ? "Locked" : "Over"}</span></div>
      <p class="said">{open(lock.comment)}</p>
      <p class="soft">by {open(person(lock.creator))} <When at={instant(lock.createTime)} now={now} />{lock.expireTime ? <span>, until <When at={instant(lock.expireTime)} now={now} /></span> : ", until it is removed"}{lock.endedGrantCount > 0 ? `; ended ${lock.endedGrantCount} grants` : ""}</p>
      <FaultNotice fault={remove.fault} />
      {responds(me) && lock.active ? <div class="actions"><button type="button" disabled={remove.isBusy} onClick={() => void remove.make({ name: lock.name, etag: lock.etag })}>Unlock {open(person(target))}</button></div> : null}
    </li>
  );
}

function NewLock({ again }: { readonly again: () => void }) {
  const [kind, setKind] = useState<Kind>("principal");
  const [target, setTarget] = useState("");
  const [comment, setComment] = useState("");
  const [until, setUntil] = useState("");
  const [endGrants, setEndGrants] = useState(false);
  const change = useChange(
    (given: { kind: Kind; target: string; comment: string; until: string; endGrants: boolean }, requestId) =>
      locks.createLock({ requestId, lock: { target: { case: given.kind, value: given.target }, comment: given.comment, endGrants: given.endGrants, ...(given.until === "" ? {} : { expireTime: timestamp(new Date(given.until).getTime()) }) } }),
    again,
  );
  return (
    <section class="panel">
      <h2>Lock somebody out</h2>
      <form onSubmit={(event) => { event.preventDefault(); void change.make({ kind, target: target.trim(), comment, until, endGrants }); }}>
        <Field label="What">
          {(attributes) => <select value={kind} onChange={(event) => setKind(event.currentTarget.value as Kind)} {...attributes}>{Object.entries(KINDS).map(([each, words]) => <option key={each} value={each}>{words}</option>)}</select>}
        </Field>
        <TextField label="Name" value={target} onText={setTarget} required placeholder={kind === "principal" ? "user:alice@example.com" : ""} wrong={wrongIn(change.fault, "lock.principal", "lock.group", "lock.jti", "lock.target")} />
        <AreaField label="Why" value={comment} onText={setComment} required maxLength={4096} wrong={wrongIn(change.fault, "lock.comment")} />
        <TextField label="Until (optional)" type="datetime-local" min={toLocalInput(Date.now())} value={until} onText={setUntil} wrong={wrongIn(change.fault, "lock.expire_time")} />
        <label class="check"><input type="checkbox" checked={endGrants} onChange={(event) => setEndGrants(event.currentTarget.checked)} /> End what they hold for good, too</label>
        <FaultNotice fault={change.fault} />
        <div class="actions"><button type="submit" class="stop" disabled={change.isBusy}>Lock</button></div>
      </form>
    </section>
  );
}
