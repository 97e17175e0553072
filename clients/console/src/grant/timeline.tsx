/** What happened to a grant, as a picture and as a list; the numbers in the picture are those of the list. */
import { type Grant, Grant_State as State, Review_Decision as Decision } from "contract/jitaccess/v1/grant_pb";

import { useNarrow } from "../hooks";
import { LogIn, type SaidOfLogIn } from "../parts/login";
import { When } from "../parts/time";
import { open, person, sentence } from "../words/text";
import { instant, moment, span, spell } from "../words/time";
import { Terms } from "./facts";

export interface Happening {
  readonly at: number;
  readonly what: string;
  readonly by: string;
  readonly said: string;
  readonly tone: "plain" | "good" | "bad";
  readonly terms?: NonNullable<Grant["requested"]>;
  readonly logIn?: SaidOfLogIn;
}

const ENDED = new Set([State.DENIED, State.WITHDRAWN, State.REVOKED, State.RELEASED]);

/** Everything that the grant itself records, oldest first. */
export function happenings(grant: Grant): Happening[] {
  const found: (Omit<Happening, "at"> & { at: number | undefined })[] = [
    { at: instant(grant.createTime), what: "Asked", by: grant.requester, said: grant.justification?.text ?? "", tone: "plain" },
    ...grant.reviews.map((review) => ({
      at: instant(review.createTime),
      what: sentence(Decision[review.decision]) + (review.round > 0 ? `, more time (${review.round})` : ""),
      by: review.reviewer + (review.onBehalfOf ? ` for ${review.onBehalfOf}` : ""),
      said: review.comment,
      tone: review.decision === Decision.APPROVED ? ("good" as const) : ("bad" as const),
      ...(review.terms ? { terms: review.terms } : {}),
      logIn: review,
    })),
    { at: instant(grant.counterOffer?.createTime), what: "Other terms offered", by: grant.counterOffer?.reviewer ?? "", said: grant.counterOffer?.comment ?? "", tone: "plain" },
    { at: instant(grant.extension?.createTime), what: `Asked for ${spell(span(grant.extension?.duration))} more`, by: grant.extension?.requester ?? "", said: grant.extension?.justification?.text ?? "", tone: "plain" },
    { at: grant.approveTime ? instant(grant.startTime) : undefined, what: "Begins", by: "", said: "", tone: "good" },
    { at: instant(grant.lastUseTime), what: `Used last, ${grant.uses} in all`, by: grant.subject, said: "", tone: "plain" },
    { at: ENDED.has(grant.state) ? instant(grant.endTime) : undefined, what: sentence(State[grant.state]), by: grant.endedBy, said: grant.endComment, tone: "bad" },
    { at: ENDED.has(grant.state) ? undefined : instant(grant.expireTime), what: grant.state === State.EXPIRED ? "Expired" : "Ends", by: "", said: "", tone: "plain" },
    { at: instant(grant.useReview?.createTime), what: "Emergency reviewed", by: grant.useReview?.reviewer ?? "", said: grant.useReview?.comment ?? "", tone: "good" },
  ];
  return found.filter((each): each is Happening => each.at !== undefined).sort((one, other) => one.at - other.at);
}

const EDGE = 18;
const GAP = 24;

export function Timeline({ grant, now }: { readonly grant: Grant; readonly now: number }) {
  const all = happenings(grant);
  return (
    <section aria-label="What happened">
      <Picture grant={grant} all={all} now={now} />
      <ol class="happenings">
        {all.map((each, at) => (
          <li key={at} class={each.at > now ? "ahead" : ""}>
            <span class={`number ${each.tone}`} aria-hidden="true">{at + 1}</span>
            <div>
              <strong>{each.what}</strong> <When at={each.at} now={now} />
              {each.by ? <div class="soft">by {open(person(each.by))}</div> : null}
              {each.logIn ? <LogIn of={each.logIn} now={now} /> : null}
              {each.terms ? <div>gave <Terms terms={each.terms} now={now} /></div> : null}
              {each.said ? <p class="said">{open(each.said)}</p> : null}
            </div>
          </li>
        ))}
      </ol>
    </section>
  );
}

interface PictureProps {
  readonly grant: Grant;
  readonly all: readonly Happening[];
  readonly now: number;
}

function Picture({ grant, all, now }: PictureProps) {
  // In its own units, so that its numbers are as large on a phone.
  const width = useNarrow() ? 320 : 720;
  const first = all[0]?.at ?? now;
  const end = Math.max(all.at(-1)?.at ?? now, Math.min(now, (all.at(-1)?.at ?? now) + 1));
  const to = Math.max(end, first + 1000);
  const x = (at: number) => EDGE + ((at - first) / (to - first)) * (width - 2 * EDGE);
  const places = spread(all.map((each) => x(each.at)), width);
  const [start, over] = [grant.approveTime ? instant(grant.startTime) : undefined, instant(grant.endTime) ?? instant(grant.expireTime)];
  const told = `Timeline from ${moment(first, now)} to ${moment(to, now)}: ${all.map((each, at) => `${at + 1} ${each.what}`).join(", ")}`;
  return (
    <svg class="timeline" viewBox={`0 0 ${width} 78`} role="img" aria-label={told}>
      <line class="axis" x1={EDGE} x2={width - EDGE} y1="44" y2="44" />
      {start !== undefined && over !== undefined && over > start ? <rect class="span" x={x(start)} y="38" width={Math.max(2, x(over) - x(start))} height="12" rx="4" /> : null}
      {now > first && now < to ? <line class="now" x1={x(now)} x2={x(now)} y1="30" y2="62" /> : null}
      {all.map((each, at) => (
        <g key={at}>
          <line class="stalk" x1={x(each.at)} y1="44" x2={places[at]} y2="24" />
          <circle class={`dot ${each.tone}`} cx={places[at]} cy="16" r="11" />
          <text class="dot-number" x={places[at]} y="20.5" text-anchor="middle">{at + 1}</text>
        </g>
      ))}
      <text class="tick" x={EDGE} y="74">{moment(first, now)}</text>
      <text class="tick" x={width - EDGE} y="74" text-anchor="end">{moment(to, now)}</text>
    </svg>
  );
}

/** Moves places apart that would cover each other, and keeps all within the picture. */
function spread(places: readonly number[], width: number): number[] {
  const moved = [...places];
  for (let at = 1; at < moved.length; at += 1) {
    moved[at] = Math.max(moved[at] ?? 0, (moved[at - 1] ?? 0) + GAP);
  }
  const over = (moved.at(-1) ?? 0) - (width - EDGE);
  if (over > 0) {
    for (let at = moved.length - 1, most = width - EDGE; at >= 0; at -= 1, most -= GAP) {
      moved[at] = Math.min(moved[at] ?? 0, most);
    }
  }
  return moved;
}
