/** Signals: named pieces of system state that policies read, such as an incident. */
import { fromJson, type JsonValue, toJson } from "@bufbuild/protobuf";
import { ValueSchema } from "@bufbuild/protobuf/wkt";
import type { Signal } from "contract/jitaccess/v1/signal_pb";
import { useState } from "preact/hooks";

import { signals } from "../api";
import { useChange, useNow, useRead } from "../hooks";
import { administers, useMe } from "../me";
import { DurationField } from "../parts/duration";
import { TextField, wrongIn } from "../parts/field";
import { Empty, FaultNotice, Reading } from "../parts/notice";
import { When } from "../parts/time";
import { last, open, person } from "../words/text";
import { DAY, HOUR, instant, MINUTE, timestamp } from "../words/time";

export function Signals() {
  const me = useMe();
  const now = useNow(10_000);
  const all = useRead(() => signals.listSignals({ pageSize: 1000 }), []);
  return (
    <>
      <Reading of={all}>
        {(answer) => answer.signals.length === 0 ? <Empty>No signal is set.</Empty> : (
          <ul class="cards">{answer.signals.map((signal) => <One key={signal.name} signal={signal} now={now} again={() => void all.again()} />)}</ul>
        )}
      </Reading>
      {administers(me) ? <SetSignal again={() => void all.again()} /> : null}
    </>
  );
}

function One({ signal, now, again }: { readonly signal: Signal; readonly now: number; readonly again: () => void }) {
  const me = useMe();
  const remove = useChange((given: { name: string; etag: string }, requestId) => signals.deleteSignal({ ...given, requestId }), again);
  const value = signal.value === undefined ? "" : JSON.stringify(toJson(ValueSchema, signal.value));
  return (
    <li class="card">
      <div class="card-head"><strong>{last(signal.name)}</strong> <code>{open(value)}</code>{signal.stale ? <span class="badge warn">Stale: counts as missing</span> : null}</div>
      <p class="soft">set by {open(person(signal.setter))} <When at={instant(signal.updateTime)} now={now} />, until <When at={instant(signal.expireTime)} now={now} /></p>
      <FaultNotice fault={remove.fault} />
      {administers(me) ? <div class="actions"><button type="button" disabled={remove.isBusy} onClick={() => void remove.make({ name: signal.name, etag: signal.etag })}>Remove {last(signal.name)}</button></div> : null}
    </li>
  );
}

function SetSignal({ again }: { readonly again: () => void }) {
  const [name, setName] = useState("");
  const [value, setValue] = useState("on");
  const [length, setLength] = useState(4 * HOUR);
  const change = useChange(
    (given: { name: string; value: string; span: number }, requestId) =>
      signals.setSignal({ requestId, signal: { name: `signals/${given.name}`, value: fromJson(ValueSchema, read(given.value)), expireTime: timestamp(Date.now() + given.span) } }),
    again,
  );
  return (
    <section class="panel">
      <h2>Set a signal</h2>
      <form onSubmit={(event) => { event.preventDefault(); void change.make({ name, value, span: length }); }}>
        <TextField label="Name" value={name} onText={setName} required placeholder="incident" wrong={wrongIn(change.fault, "signal.name")} />
        <TextField label="Value" value={value} onText={setValue} required help="JSON, or a plain word: true, 3, on" wrong={wrongIn(change.fault, "signal.value")} />
        <DurationField label="For" least={MINUTE} most={30 * DAY} value={length} onSpan={setLength} wrong={wrongIn(change.fault, "signal.expire_time")} />
        <FaultNotice fault={change.fault} />
        <div class="actions"><button type="submit" class="go" disabled={change.isBusy}>Set</button></div>
      </form>
    </section>
  );
}

function read(text: string): JsonValue {
  try {
    return JSON.parse(text) as JsonValue;
  } catch {
    return text;
  }
}
