/** How whoever decided had logged in, as its token said: the record of a decision, and a review where the policy asked. */
import type { Timestamp } from "@bufbuild/protobuf/wkt";

import { open } from "../words/text";
import { instant } from "../words/time";
import { When } from "./time";

export interface SaidOfLogIn {
  readonly acr: string;
  readonly amr: readonly string[];
  readonly authTime?: Timestamp | undefined;
}

export function LogIn({ of: said, now }: { readonly of: SaidOfLogIn; readonly now: number }) {
  const ways = [said.acr, ...said.amr].filter((each) => each !== "");
  const at = instant(said.authTime);
  if (ways.length === 0 && at === undefined) {
    return null;
  }
  return <div class="soft">logged in <When at={at} now={now} /> {ways.map((way) => <code key={way}>{open(way)} </code>)}</div>;
}
