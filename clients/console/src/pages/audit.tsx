/** The audit log: found by the API's filter, followed as it grows, exported, and verified against a checkpoint. */
import { type AuditEvent, type StreamAuditVerificationResponse as Step, VerifyAuditLogResponse_CheckpointSignature as Signature } from "contract/jitaccess/v1/audit_pb";
import { useEffect, useState } from "preact/hooks";

import { audit, call, type Fault, faultOf } from "../api";
import { AuditTable } from "../audit/table";
import { useRead } from "../hooks";
import { Download } from "../parts/download";
import { AreaField } from "../parts/field";
import { FilterField } from "../parts/filter";
import { FaultNotice, Notice, Reading } from "../parts/notice";
import { keepQuery, query } from "../router";
import { open } from "../words/text";

const PAGE = 50;
const KEPT = 200;
const READY = [
  ["Decisions", "event_type = GRANT_APPROVED OR event_type = GRANT_DENIED"],
  ["Ends", "event_type = GRANT_REVOKED OR event_type = GRANT_RELEASED OR event_type = GRANT_EXPIRED"],
  ["Refusals", "event_type = CALL_REFUSED"],
  ["Emergencies", "event_type = BREAK_GLASS_USED"],
  ["Policies", "event_type = POLICY_CREATED OR event_type = POLICY_UPDATED OR event_type = POLICY_DELETED"],
] as const;

export function Audit() {
  const [filter, setFilter] = useState(() => query("filter"));
  const [number, setNumber] = useState(1);
  const [isFollowing, setFollowing] = useState(false);
  const found = useRead(() => pages(filter, number), [filter, number]);
  const search = (text: string) => {
    keepQuery({ filter: text });
    setNumber(1);
    setFilter(text);
  };
  return (
    <>
      <FilterField value={filter} ready={READY} onSearch={search} fault={found.fault} help={<>As the API has it: <code>principal = "user:bob@example.com"</code>, <code>grant = "grants/…"</code>, <code>event_time {">"} "2026-03-01T00:00:00Z"</code>, with AND, OR, NOT.</>} />
      <div class="actions">
        <button type="button" aria-pressed={isFollowing} onClick={() => setFollowing(!isFollowing)}>{isFollowing ? "Stop following" : "Follow what comes"}</button>
        <Export filter={filter} />
      </div>
      {isFollowing ? <Tail filter={filter} /> : (
        <Reading of={found}>
          {(answer) => (
            <>
              <AuditTable events={answer.events} />
              {answer.isMore ? <div class="actions"><button type="button" onClick={() => setNumber(number + 1)}>More</button></div> : null}
            </>
          )}
        </Reading>
      )}
      <Verify />
    </>
  );
}

async function pages(filter: string, number: number): Promise<{ events: AuditEvent[]; isMore: boolean }> {
  const events: AuditEvent[] = [];
  let pageToken = "";
  for (let at = 0; at < number; at += 1) {
    const page = await call(() => audit.listAuditEvents({ filter, pageToken, pageSize: PAGE, orderBy: "seq desc" }));
    events.push(...page.auditEvents);
    pageToken = page.nextPageToken;
    if (pageToken === "") {
      break;
    }
  }
  return { events, isMore: pageToken !== "" };
}

function Tail({ filter }: { readonly filter: string }) {
  const [events, setEvents] = useState<readonly AuditEvent[]>([]);
  const [fault, setFault] = useState<Fault>();
  useEffect(() => {
    const stop = new AbortController();
    const follow = async () => {
      for await (const answer of audit.tailAuditEvents({ filter }, { signal: stop.signal })) {
        const event = answer.auditEvent;
        if (event !== undefined) {
          setEvents((before) => [event, ...before].slice(0, KEPT));
        }
      }
    };
    follow().catch((thrown: unknown) => stop.signal.aborted || setFault(faultOf(thrown)));
    return () => stop.abort();
  }, [filter]);
  return <div aria-live="off"><FaultNotice fault={fault} /><AuditTable events={events} /></div>;
}

function Export({ filter }: { readonly filter: string }) {
  const [format, setFormat] = useState("jitaccess");
  const read = () => call(async () => {
    const parts: string[] = [];
    const decoder = new TextDecoder();
    for await (const part of audit.exportAuditEvents({ filter, format })) {
      parts.push(decoder.decode(part.data, { stream: true }));
    }
    return parts.join("");
  });
  return (
    <>
      <label>Format <select class="narrow" value={format} onChange={(event) => setFormat(event.currentTarget.value)}>
        <option value="jitaccess">as it is</option><option value="cloudevents">CloudEvents</option><option value="ocsf">OCSF</option>
      </select></label>
      <Download name={`audit-${format}.ndjson`} text={read}>Export what matches</Download>
    </>
  );
}

/** Recomputes the log's chain, and compares it with a checkpoint that was kept elsewhere. */
function Verify() {
  const [checkpoint, setCheckpoint] = useState("");
  const [step, setStep] = useState<Step>();
  const [fault, setFault] = useState<Fault>();
  const [isRunning, setRunning] = useState(false);
  const verify = async () => {
    setRunning(true);
    setFault(undefined);
    setStep(undefined);
    try {
      await call(async () => {
        for await (const answer of audit.streamAuditVerification({ checkpoint: checkpoint.trim() })) {
          setStep(answer);
        }
      });
    } catch (thrown) {
      setFault(faultOf(thrown));
    }
    setRunning(false);
  };
  const keep = async () => (await call(() => audit.getAuditCheckpoint({}))).checkpoint;
  return (
    <section class="panel">
      <h2>Verify the log</h2>
      <AreaField label="Checkpoint (optional)" value={checkpoint} onText={setCheckpoint} class="code" help="One that was kept elsewhere: then nothing from before it can have been changed without being found." />
      <div class="actions">
        <button type="button" class="go" disabled={isRunning} onClick={() => void verify()}>Verify</button>
        <Download name="checkpoint.jwt" text={keep}>Keep a checkpoint of now</Download>
      </div>
      <FaultNotice fault={fault} />
      {step && fault === undefined ? <Verified step={step} /> : null}
    </section>
  );
}

const BESIDE: Record<Signature, string> = {
  [Signature.CHECKPOINT_SIGNATURE_UNSPECIFIED]: "",
  [Signature.VERIFIED]: " It goes on from your checkpoint, whose signature is good.",
  [Signature.KEY_UNKNOWN]: " It goes on from your checkpoint, whose signature could not be verified: the service does not have its key any more.",
};

function Verified({ step }: { readonly step: Step }) {
  const result = step.result;
  if (result === undefined) {
    return <p role="status"><progress max={Number(step.eventCount)} value={Number(step.checkedCount)} aria-label="Records verified" /> {`${step.checkedCount} of ${step.eventCount} records`}</p>;
  }
  if (!result.valid) {
    const where = result.firstBadSeq > 0n ? `at record ${result.firstBadSeq}` : `beside the log: ${result.firstDiffering}`;
    return <Notice tone="bad">Something was changed {open(where)}: {open(result.problem || result.difference)}</Notice>;
  }
  return <Notice tone="good">All {`${result.eventCount}`} records are as they were written.{BESIDE[result.checkpointSignature]} Head: <code>{result.headHash}</code></Notice>;
}
