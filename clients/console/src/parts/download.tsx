import type { ComponentChildren } from "preact";

interface Props {
  readonly name: string;
  readonly text: () => string | Promise<string>;
  readonly children: ComponentChildren;
}

/** Gives a text to the browser as a file to keep. */
export function Download({ name, text, children }: Props) {
  const save = async () => {
    const address = URL.createObjectURL(new Blob([await text()], { type: "application/octet-stream" }));
    const link = Object.assign(document.createElement("a"), { href: address, download: name });
    link.click();
    URL.revokeObjectURL(address);
  };
  return <button type="button" onClick={() => void save()}>{children}</button>;
}
