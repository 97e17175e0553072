/** What the caller's approval would do now. The service is asked, and nothing is decided by asking. */
import { type Grant, Grant_State as State } from "contract/jitaccess/v1/grant_pb";
import type { Duration, Timestamp } from "@bufbuild/protobuf/wkt";

import type { Fault } from "../api";
import { grants } from "../api";
import { useRead } from "../hooks";
import { FaultNotice } from "../parts/notice";
import { When } from "../parts/time";
import { count, open } from "../words/text";
import { instant, span, spell } from "../words/time";
import { who } from "./facts";
import { waitsForMore } from "./state";

/** What a reviewer gives instead of what is asked for. */
export interface Edits {
  readonly duration?: Pick<Duration, "seconds" | "nanos">;
  readonly resources?: string[];
  readonly actions?: string[];
  readonly startTime?: Pick<Timestamp, "seconds" | "nanos">;
}

interface Props {
  readonly grant: Grant;
  readonly now: number;
  readonly edits?: Edits;
}

/** What would become of the grant, or why the caller may not. */
export function Outcome({ grant, now, edits = {} }: Props) {
  const tried = useRead(() => attempt(grant, edits), [grant.etag, spelled(edits)]);
  if (tried.fault !== undefined && !wantsComment(tried.fault)) {
    return <FaultNotice fault={tried.fault} />;
  }
  const would = tried.answer ?? (tried.fault === undefined ? undefined : null);
  return <p class="outcome" role="status">{would === undefined ? "Asking what your approval would do …" : would === null ? "Yours counts once you have written a comment." : <After grant={would} now={now} />}</p>;
}

/** Why the caller may not decide on what waits; nothing where nothing waits. */
export function WhyNot({ grant }: { readonly grant: Grant }) {
  const tried = useRead(() => attempt(grant, {}), [grant.etag]);
  return tried.fault === undefined || wantsComment(tried.fault) ? null : <p class="soft">You may not decide: {open(tried.fault.message)}.</p>;
}

function attempt(grant: Grant, edits: Edits): Promise<Grant> {
  const extensionRound = waitsForMore(grant) ? (grant.extension?.round ?? 0) : 0;
  return grants.approveGrant({ ...edits, name: grant.name, etag: grant.etag, extensionRound, validateOnly: true });
}

/** The comment is asked for after everything else, so nothing but that is missing. */
function wantsComment(fault: Fault): boolean {
  return Object.keys(fault.fields).join() === "comment";
}

function spelled(edits: Edits): string {
  return JSON.stringify(edits, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value));
}

function After({ grant, now }: { readonly grant: Grant; readonly now: number }) {
  const waiting = grant.steps.filter((step) => !step.skipped && step.approvalsRemaining > 0);
  const [next] = waiting;
  if (next !== undefined && (grant.state === State.PENDING || waitsForMore(grant))) {
    const missing = waiting.reduce((sum, step) => sum + step.approvalsRemaining, 0);
    return <>After yours it needs {count(missing, "more approval")}: {next.displayName ? `${open(next.displayName)}, ` : ""}{who(next.approvers)}.</>;
  }
  const [start, end] = [instant(grant.startTime), instant(grant.expireTime)];
  if (grant.extension !== undefined && grant.reviews.at(-1)?.round === grant.extension.round) {
    return <>Yours is the last approval needed: the access would end {spell(span(grant.extension.duration))} later, <When at={end} now={now} />.</>;
  }
  if (grant.state === State.SCHEDULED) {
    return <>Yours is the last approval needed: the access would begin <When at={start} now={now} /> and end <When at={end} now={now} />.</>;
  }
  return <>Yours is the last approval needed: the access would be active at once, until <When at={end} now={now} />.</>;
}
