/** Words for what the contract has: people, names, texts. */

/** `alice@example.com` of `user:alice@example.com`; a service keeps its prefix, since nobody expects one. */
export function person(principal: string): string {
  return principal.replace(/^user:/, "");
}

/** `orders-write` of `policies/orders-write`. */
export function last(name: string): string {
  return name.slice(name.lastIndexOf("/") + 1);
}

export function count(number: number | bigint, one: string, many = `${one}s`): string {
  return `${number} ${Number(number) === 1 ? one : many}`;
}

/** `Waits for approval` instead of WAITS_FOR_APPROVAL. */
export function sentence(constant: string): string {
  const words = constant.toLowerCase().replaceAll("_", " ");
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/**
 * Shows what could lie about a text: controls and marks of direction, which turn it round on the screen, and what has no
 * width at all (Unicode TR 36).
 */
export function open(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/gu, (character) => {
    const code = character.codePointAt(0) ?? 0;
    return `‹U+${code.toString(16).toUpperCase().padStart(4, "0")}›`;
  });
}

/** A filter's text literal (AIP-160). */
export function quoted(text: string): string {
  return `"${text.replaceAll("\\", "\\\\").replaceAll('"', '\\"')}"`;
}
