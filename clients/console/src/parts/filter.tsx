import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import type { Fault } from "../api";
import { TextField, wrongIn } from "./field";

interface Props {
  readonly value: string;
  readonly ready: readonly (readonly [string, string])[];
  readonly help: ComponentChildren;
  readonly fault: Fault | undefined;
  readonly onSearch: (filter: string) => void;
}

/** A filter as the API has it (AIP-160), and some that are ready. */
export function FilterField({ value, ready, help, fault, onSearch }: Props) {
  const [text, setText] = useState(value);
  const use = (filter: string) => {
    setText(filter);
    onSearch(filter);
  };
  return (
    <form role="search" onSubmit={(event) => { event.preventDefault(); onSearch(text.trim()); }}>
      <TextField label="Filter" value={text} onText={setText} help={help} wrong={wrongIn(fault, "filter")} />
      <div class="actions">
        <button type="submit" class="go">Search</button>
        <button type="button" aria-pressed={value === ""} onClick={() => use("")}>All</button>
        {ready.map(([name, filter]) => <button key={name} type="button" aria-pressed={value === filter} onClick={() => use(filter)}>{name}</button>)}
      </div>
    </form>
  );
}
