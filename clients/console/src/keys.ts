/**
 * Shortcuts of single keys. They do nothing while one types or a dialog is open, and can be switched off, for whoever
 * speaks to the computer (WCAG 2.1.4). That choice is all that the console keeps in localStorage.
 */
import { useEffect, useRef } from "preact/hooks";

export interface Key {
  readonly does: string;
  readonly act: () => void;
}

const OFF = "jit-console-no-shortcuts";
let bound: Readonly<Record<string, Key>> = {};

export function useKeys(keys: Readonly<Record<string, Key>>): void {
  const mine = useRef(keys);
  mine.current = bound = keys;
  useEffect(
    () => () => {
      // The next page may have bound its own by now.
      if (bound === mine.current) {
        bound = {};
      }
    },
    [],
  );
}

export function boundKeys(): Readonly<Record<string, Key>> {
  return bound;
}

export function areOn(): boolean {
  return localStorage.getItem(OFF) === null;
}

export function switchKeys(on: boolean): void {
  if (on) {
    localStorage.removeItem(OFF);
  } else {
    localStorage.setItem(OFF, "1");
  }
}

/** Acts on the page's keys, and on `?` by `help`, until the returned function is called. */
export function listen(help: () => void): () => void {
  const press = (event: KeyboardEvent) => {
    const target = event.target;
    const types = target instanceof HTMLElement && target.closest("input, textarea, select, [contenteditable]") !== null;
    if (types || event.ctrlKey || event.metaKey || event.altKey || !areOn() || document.querySelector("dialog[open]") !== null) {
      return;
    }
    const act = event.key === "?" ? help : bound[event.key]?.act;
    if (act !== undefined) {
      event.preventDefault();
      act();
    }
  };
  document.addEventListener("keydown", press);
  return () => document.removeEventListener("keydown", press);
}
