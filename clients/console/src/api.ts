/** The service, by gRPC-Web. Every call carries the token in a header, so no other site's page can make one. */
import {
  AccessService,
  AuditService,
  Code,
  ConnectError,
  DelegationService,
  GrantService,
  grpcWeb,
  LockService,
  PolicyService,
  reason,
  SignalService,
} from "jitaccess";
import { BadRequestSchema, ErrorInfoSchema } from "contract/google/rpc/error_details_pb";

import { bearer, replace, SessionOver } from "./session/session";

const options = { baseUrl: location.origin, token: bearer };

export const access = grpcWeb(AccessService, options);
export const audit = grpcWeb(AuditService, options);
export const delegations = grpcWeb(DelegationService, options);
export const grants = grpcWeb(GrantService, options);
export const locks = grpcWeb(LockService, options);
export const policies = grpcWeb(PolicyService, options);
export const signals = grpcWeb(SignalService, options);

/** What went wrong, for people: the service's own words, its reason, and which fields are at fault. */
export interface Fault {
  readonly message: string;
  readonly reason: string;
  readonly fields: Readonly<Record<string, string>>;
  readonly isStale: boolean;
  readonly isGone: boolean;
  /** How the caller must log in to be let do it: `acr_values`, `max_age` (RFC 9470). Nothing where that is not why. */
  readonly stepUp: Readonly<Record<string, string>> | undefined;
}

const ASKED_OF_PROVIDER = ["acr_values", "max_age"];

/** Makes the call; once more if the service did not take the token and there is another one by now. */
export async function call<Answer>(make: () => Promise<Answer>): Promise<Answer> {
  try {
    return await make();
  } catch (fault) {
    if (isUnauthenticated(fault) && (await replace())) {
      return make();
    }
    throw fault;
  }
}

export function isUnauthenticated(fault: unknown): boolean {
  return ConnectError.from(fault).code === Code.Unauthenticated && !isOver(fault);
}

export function isOver(fault: unknown): boolean {
  return fault instanceof SessionOver || (fault instanceof ConnectError && fault.cause instanceof SessionOver);
}

export function faultOf(thrown: unknown): Fault {
  const error = ConnectError.from(thrown);
  const bad = error.findDetails(BadRequestSchema)[0];
  const fields = Object.fromEntries((bad?.fieldViolations ?? []).map((each) => [each.field, each.description]));
  return {
    message: isOver(thrown) ? "Your session is over." : plainWords(error),
    reason: reason(error) ?? "",
    fields,
    isStale: error.code === Code.Aborted,
    isGone: error.code === Code.NotFound || error.code === Code.PermissionDenied,
    stepUp: reason(error) === "REVIEW_ASSURANCE_REQUIRED" ? stepUp(error) : undefined,
  };
}

function stepUp(error: ConnectError): Record<string, string> {
  const told = error.findDetails(ErrorInfoSchema)[0]?.metadata ?? {};
  return Object.fromEntries(ASKED_OF_PROVIDER.filter((name) => told[name]).map((name) => [name, told[name] ?? ""]));
}

function plainWords(error: ConnectError): string {
  if (error.code === Code.Unknown && error.cause instanceof TypeError) {
    return "The service cannot be reached.";
  }
  return error.rawMessage || Code[error.code];
}
