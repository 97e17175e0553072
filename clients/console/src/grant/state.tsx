import { Grant_State as State, type Grant } from "contract/jitaccess/v1/grant_pb";
import { GrantExtension_State as More } from "contract/jitaccess/v1/grant_pb";

import { sentence } from "../words/text";

const TONES: Partial<Record<State, string>> = {
  [State.PENDING]: "warn",
  [State.SCHEDULED]: "info",
  [State.ACTIVE]: "good",
  [State.REVOKED]: "bad",
  [State.DENIED]: "bad",
};
const MARKS: Partial<Record<State, string>> = {
  [State.PENDING]: "…",
  [State.SCHEDULED]: "◷",
  [State.ACTIVE]: "●",
  [State.REVOKED]: "✕",
  [State.DENIED]: "✕",
};

/** The state by a word and a mark; the colour only helps. */
export function StateBadge({ state }: { readonly state: State }) {
  return (
    <span class={`badge ${TONES[state] ?? ""}`}>
      <span aria-hidden="true">{MARKS[state] ?? "○"} </span>
      {sentence(State[state])}
    </span>
  );
}

export function isLive(grant: Grant): boolean {
  return grant.state === State.ACTIVE || grant.state === State.SCHEDULED;
}

export function waitsForMore(grant: Grant): boolean {
  return grant.extension?.state === More.PENDING;
}
