import type { ComponentChildren } from "preact";

import type { Fault } from "../api";
import type { Read } from "../hooks";
import { logIn } from "../session/session";
import { open } from "../words/text";

export type Tone = "bad" | "warn" | "good" | "plain";

export function Notice({ tone, children }: { readonly tone: Tone; readonly children: ComponentChildren }) {
  return (
    <div class={`notice ${tone}`} role={tone === "bad" ? "alert" : "status"}>
      {children}
    </div>
  );
}

export function FaultNotice({ fault }: { readonly fault: Fault | undefined }) {
  if (fault === undefined) {
    return null;
  }
  return (
    <Notice tone="bad">
      {open(fault.message)}
      {fault.reason ? <span class="reason"> {fault.reason}</span> : null}
      {fault.stepUp ? <div class="actions"><button type="button" onClick={() => void logIn(fault.stepUp)}>Log in as it asks</button></div> : null}
    </Notice>
  );
}

interface ReadingProps<Answer> {
  readonly of: Read<Answer>;
  readonly children: (answer: Answer) => ComponentChildren;
}

/** What was read, or that it is being read, or why it could not be. What was there stays while it is read again. */
export function Reading<Answer>({ of, children }: ReadingProps<Answer>) {
  return (
    <>
      <FaultNotice fault={of.fault} />
      {of.answer !== undefined ? children(of.answer) : of.isReading ? <p class="waiting" role="status">Reading …</p> : null}
    </>
  );
}

export function Empty({ children }: { readonly children: ComponentChildren }) {
  return <p class="empty">{children}</p>;
}
