import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";

import { type Fault, faultOf } from "../api";
import { FaultNotice } from "./notice";

interface Props {
  readonly name: string;
  readonly text: () => string | Promise<string>;
  readonly children: ComponentChildren;
}

/** Gives a text to the browser as a file to keep, once all of it is there. */
export function Download({ name, text, children }: Props) {
  const [fault, setFault] = useState<Fault>();
  const [isBusy, setBusy] = useState(false);
  const save = async () => {
    setBusy(true);
    setFault(undefined);
    try {
      keep(name, await text());
    } catch (thrown) {
      setFault(faultOf(thrown));
    }
    setBusy(false);
  };
  return (
    <>
      <button type="button" disabled={isBusy} onClick={() => void save()}>{children}</button>
      <FaultNotice fault={fault} />
    </>
  );
}

function keep(name: string, text: string): void {
  const address = URL.createObjectURL(new Blob([text], { type: "application/octet-stream" }));
  const link = Object.assign(document.createElement("a"), { href: address, download: name });
  link.click();
  URL.revokeObjectURL(address);
}
