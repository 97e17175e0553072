/** Time as people see it: an instant, and how much of a span is left. */
import { fully, moment, relative, spell } from "../words/time";

export function When({ at, now }: { readonly at: number | undefined; readonly now: number }) {
  if (at === undefined) {
    return <span>–</span>;
  }
  return (
    <time dateTime={new Date(at).toISOString()} title={fully(at)}>
      {moment(at, now)} <span class="soft">({relative(at, now)})</span>
    </time>
  );
}

interface BarProps {
  readonly from: number;
  readonly to: number;
  readonly now: number;
  readonly label: string;
}

/** How much time is left of a span, as a bar that empties. */
export function TimeBar({ from, to, now, label }: BarProps) {
  const share = to > from ? Math.min(1, Math.max(0, (to - now) / (to - from))) : 0;
  const text = now < to ? `${spell(to - now)} left of ${spell(to - from)}` : "over";
  return (
    <div class="timebar">
      <div class={`track ${share < 0.15 ? "short" : ""}`} role="img" aria-label={`${label}: ${text}`}>
        <span style={{ width: `${(share * 100).toFixed(2)}%` }} />
      </div>
      <span class="soft">{text}</span>
    </div>
  );
}
