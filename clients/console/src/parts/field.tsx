/** A labelled control, with its help and what is wrong with it, as assistive technology expects them. */
import type { ComponentChildren, JSX } from "preact";
import { useId } from "preact/hooks";

import type { Fault } from "../api";
import { open } from "../words/text";

interface FieldProps {
  readonly label: string;
  readonly help?: ComponentChildren;
  readonly wrong?: string | undefined;
  readonly children: (attributes: { id: string; "aria-describedby": string; "aria-invalid": boolean }) => ComponentChildren;
}

export function Field({ label, help, wrong, children }: FieldProps) {
  const id = useId();
  const described = `${id}-help`;
  return (
    <div class="field">
      <label for={id}>{label}</label>
      {children({ id, "aria-describedby": described, "aria-invalid": wrong !== undefined && wrong !== "" })}
      <div id={described} class="help">
        {help}
        {wrong ? <p class="wrong">{open(wrong)}</p> : null}
      </div>
    </div>
  );
}

type TextProps = Omit<FieldProps, "children"> & {
  readonly value: string;
  readonly onText: (value: string) => void;
} & Pick<JSX.InputHTMLAttributes<HTMLInputElement>, "required" | "pattern" | "placeholder" | "maxLength" | "list" | "type" | "min" | "max">;

export function TextField({ label, help, wrong, value, onText, ...rest }: TextProps) {
  return (
    <Field label={label} help={help} wrong={wrong}>
      {(attributes) => (
        <input type="text" value={value} onInput={(event) => onText(event.currentTarget.value)} autocomplete="off" {...rest} {...attributes} />
      )}
    </Field>
  );
}

type AreaProps = Omit<FieldProps, "children"> & {
  readonly value: string;
  readonly onText: (value: string) => void;
  readonly rows?: number;
  readonly required?: boolean;
  readonly maxLength?: number;
  readonly class?: string;
};

export function AreaField({ label, help, wrong, value, onText, rows = 2, ...rest }: AreaProps) {
  return (
    <Field label={label} help={help} wrong={wrong}>
      {(attributes) => (
        <textarea rows={rows} value={value} onInput={(event) => onText(event.currentTarget.value)} {...rest} {...attributes} />
      )}
    </Field>
  );
}

/** What the service said of these fields of its request. */
export function wrongIn(fault: Fault | undefined, ...fields: string[]): string | undefined {
  const found = Object.entries(fault?.fields ?? {}).find(([field]) => fields.some((name) => field === name || field.startsWith(`${name}[`) || field.startsWith(`${name}.`)));
  return found?.[1];
}
