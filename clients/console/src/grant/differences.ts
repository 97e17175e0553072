/** What is different between two versions of a grant, in words, for whoever has decided on the earlier one. */
import { type Grant, Grant_State as State } from "contract/jitaccess/v1/grant_pb";

import { open, person, sentence } from "../words/text";
import { instant, span, spell } from "../words/time";

export function differences(before: Grant, after: Grant): string[] {
  const found: string[] = [];
  const note = (name: string, one: string, other: string) => {
    if (one !== other) {
      found.push(`${name}: ${open(one) || "nothing"} → ${open(other) || "nothing"}`);
    }
  };
  note("State", sentence(State[before.state]), sentence(State[after.state]));
  note("Resources", before.resources.join(", "), after.resources.join(", "));
  note("Actions", before.actions.join(", "), after.actions.join(", "));
  note("Duration", spell(span(before.duration)), spell(span(after.duration)));
  note("Start", date(instant(before.startTime)), date(instant(after.startTime)));
  note("Policy revision", `${before.policyRevision}`, `${after.policyRevision}`);
  note("More time", spell(span(before.extension?.duration)), spell(span(after.extension?.duration)));
  for (const review of after.reviews.slice(before.reviews.length)) {
    found.push(`${open(person(review.reviewer))} decided: ${review.decision === 1 ? "approved" : "denied"}`);
  }
  if (after.counterOffer && !before.counterOffer) {
    found.push(`${open(person(after.counterOffer.reviewer))} offered other terms`);
  }
  return found.length > 0 ? found : ["Something else of it was changed."];
}

function date(at: number | undefined): string {
  return at === undefined ? "" : new Date(at).toLocaleString();
}
