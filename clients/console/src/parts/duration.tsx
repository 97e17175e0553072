/** A duration by a slider within its bounds, or typed: `90 min`. */
import { useEffect, useState } from "preact/hooks";

import { DAY, HOUR, MINUTE, readSpan, spell } from "../words/time";
import { Field } from "./field";

interface Props {
  readonly label: string;
  readonly least: number;
  readonly most: number;
  readonly value: number;
  readonly onSpan: (span: number) => void;
  readonly wrong?: string | undefined;
}

const NATURAL = [1, 2, 5, 10, 15, 20, 30, 45].map((n) => n * MINUTE).concat([1, 1.5, 2, 3, 4, 6, 8, 10, 12, 18].map((n) => n * HOUR), [1, 2, 3, 5, 7, 10, 14, 21, 30, 60, 90].map((n) => n * DAY));

/** The durations that people name, within the bounds, and the bounds themselves. */
export function stops(least: number, most: number): number[] {
  return [...new Set([least, ...NATURAL.filter((span) => span > least && span < most), most])];
}

export function DurationField({ label, least, most, value, onSpan, wrong }: Props) {
  const [text, setText] = useState(spell(value));
  useEffect(() => {
    if (readSpan(text) !== value) {
      setText(spell(value));
    }
  }, [value]);
  const all = stops(least, most);
  const nearest = all.reduce((best, span, at) => (Math.abs(span - value) < Math.abs((all[best] ?? 0) - value) ? at : best), 0);
  const read = readSpan(text);
  const fault = wrong ?? (read === undefined ? "Write it as 90 min, 2 h or 1 d." : read < least || read > most ? `It must be ${spell(least)} to ${spell(most)}.` : undefined);
  return (
    <Field label={label} wrong={fault} help={<span>{least === most ? spell(most) : `${spell(least)} to ${spell(most)}`}</span>}>
      {(attributes) => (
        <div class="duration">
          <input type="text" inputMode="text" value={text} onInput={(event) => {
              setText(event.currentTarget.value);
              const given = readSpan(event.currentTarget.value);
              if (given !== undefined) {
                onSpan(given);
              }
            }}
            {...attributes}
          />
          {all.length > 1 ? (
            <input type="range" min={0} max={all.length - 1} step={1} value={nearest} aria-label={`${label}, slider`} aria-valuetext={spell(value)}
              onInput={(event) => onSpan(all[Number(event.currentTarget.value)] ?? value)}
            />
          ) : null}
        </div>
      )}
    </Field>
  );
}
