/** What pages share: the time, what they have read of the service, and what they change there. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import { call, type Fault, faultOf } from "./api";
import { onGrant } from "./live";

/** Several changes within so many milliseconds are one reason to read again. */
const SETTLE = 120;

/** The time, anew every `every` milliseconds. */
export function useNow(every = 1000): number {
  const [now, setNow] = useState(Date.now);
  useEffect(() => {
    const timer = window.setInterval(() => setNow(Date.now()), every);
    return () => window.clearInterval(timer);
  }, [every]);
  return now;
}

export interface Read<Answer> {
  readonly answer: Answer | undefined;
  readonly fault: Fault | undefined;
  readonly isReading: boolean;
  readonly again: () => Promise<void>;
}

/**
 * Reads when one of `inputs` changes, and keeps what it had until the new answer is there. With `live`, it reads again when
 * a grant changes. A late answer of an earlier read is dropped.
 */
export function useRead<Answer>(read: () => Promise<Answer>, inputs: readonly unknown[], live = false): Read<Answer> {
  const [state, setState] = useState<{ answer?: Answer; fault?: Fault; isReading: boolean }>({ isReading: true });
  const turn = useRef(0);
  const reader = useRef(read);
  reader.current = read;
  const again = useCallback(async () => {
    const mine = ++turn.current;
    setState((before) => ({ ...before, isReading: true }));
    const next = await call(() => reader.current()).then(
      (answer) => ({ answer, isReading: false }),
      (thrown: unknown) => ({ fault: faultOf(thrown), isReading: false }),
    );
    if (mine === turn.current) {
      setState((before) => ("answer" in next ? next : { ...(before.answer === undefined ? {} : { answer: before.answer }), ...next }));
    }
  }, []);
  useEffect(() => {
    void again();
    return () => {
      turn.current += 1;
    };
  }, inputs);
  useEffect(() => {
    let timer = 0;
    const later = () => {
      window.clearTimeout(timer);
      timer = window.setTimeout(() => void again(), SETTLE);
    };
    const off = live ? onGrant(later) : () => false;
    return () => {
      window.clearTimeout(timer);
      off();
    };
  }, [live, again]);
  return { answer: state.answer, fault: state.fault, isReading: state.isReading, again };
}

export interface Change<Input> {
  readonly fault: Fault | undefined;
  readonly isBusy: boolean;
  /** Returns whether the service did it. */
  readonly make: (input: Input) => Promise<boolean>;
  readonly forget: () => void;
}

/**
 * Changes something at the service. Trying again sends the same request_id, so that nothing is done twice; another input is
 * another request.
 */
export function useChange<Input>(change: (input: Input, requestId: string) => Promise<unknown>, done?: () => void): Change<Input> {
  const [state, setState] = useState<{ fault?: Fault; isBusy: boolean }>({ isBusy: false });
  const sent = useRef({ text: "", id: "" });
  const make = async (input: Input): Promise<boolean> => {
    const text = JSON.stringify(input, (_, value: unknown) => (typeof value === "bigint" ? `${value}` : value));
    if (sent.current.text !== text) {
      sent.current = { text, id: crypto.randomUUID() };
    }
    setState({ isBusy: true });
    try {
      await call(() => change(input, sent.current.id));
      sent.current = { text: "", id: "" };
      setState({ isBusy: false });
      done?.();
      return true;
    } catch (thrown) {
      setState({ isBusy: false, fault: faultOf(thrown) });
      return false;
    }
  };
  return { fault: state.fault, isBusy: state.isBusy, make, forget: () => setState({ isBusy: false }) };
}

const NARROW = matchMedia("(max-width: 39.99rem)");

/** Whether the window is as narrow as a phone's. */
export function useNarrow(): boolean {
  const [isNarrow, setNarrow] = useState(NARROW.matches);
  useEffect(() => {
    const follow = () => setNarrow(NARROW.matches);
    NARROW.addEventListener("change", follow);
    return () => NARROW.removeEventListener("change", follow);
  }, []);
  return isNarrow;
}

/** The value once it has stood still for so many milliseconds. */
export function useSettled<Value>(value: Value, span: number): Value {
  const [settled, setSettled] = useState(value);
  useEffect(() => {
    const timer = window.setTimeout(() => setSettled(value), span);
    return () => window.clearTimeout(timer);
  }, [value, span]);
  return settled;
}
