/** Who is logged in, as the service sees them. */
import type { WhoAmIResponse } from "contract/jitaccess/v1/access_pb";
import { createContext } from "preact";
import { useContext } from "preact/hooks";

export const Me = createContext<WhoAmIResponse | undefined>(undefined);

export function useMe(): WhoAmIResponse {
  const me = useContext(Me);
  if (me === undefined) {
    throw new Error("there is nobody");
  }
  return me;
}

export function reads(me: WhoAmIResponse): boolean {
  return me.roles.includes("auditor") || me.roles.includes("admin");
}

export function administers(me: WhoAmIResponse): boolean {
  return me.roles.includes("admin");
}

export function responds(me: WhoAmIResponse): boolean {
  return me.roles.includes("responder") || me.roles.includes("admin");
}
