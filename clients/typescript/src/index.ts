/**
 * The service for TypeScript: `rest` speaks JSON by fetch, `grpcWeb` speaks gRPC-Web. Both go to Envoy's address, and their
 * types are generated from the contract.
 */
import type { DescService } from "@bufbuild/protobuf";
import { Code, ConnectError, createClient, type Client, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import createFetch, { type Client as FetchClient, type Middleware } from "openapi-fetch";

import { ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { components, paths } from "./gen/openapi.js";

export { AccessService } from "./gen/jitaccess/v1/access_pb.js";
export { AuditService } from "./gen/jitaccess/v1/audit_pb.js";
export { DelegationService } from "./gen/jitaccess/v1/delegation_pb.js";
export { LockService } from "./gen/jitaccess/v1/lock_pb.js";
export { GrantService } from "./gen/jitaccess/v1/grant_pb.js";
export { PolicyService } from "./gen/jitaccess/v1/policy_pb.js";
export { SignalService } from "./gen/jitaccess/v1/signal_pb.js";
export { TokenService } from "./gen/jitaccess/v1/token_pb.js";
export { Code, ConnectError };
export type { components, paths };

/** A message as REST has it: `Schema<"Grant">`. */
export type Schema<Name extends keyof components["schemas"]> = components["schemas"][Name];
export type Reason = Schema<"Reason">;
export type Rest = FetchClient<paths>;

export interface Options {
  /** Envoy's address: `https://jit.example.com`. */
  readonly baseUrl: string;
  /** The caller's identity token, or what fetches it anew for each call. */
  readonly token: string | (() => string | Promise<string>);
}

/** Returns a client of REST: `await rest(options).GET("/v1/grants/{grant}", { params: { path: { grant: "abc" } } })`. */
export function rest(options: Options): Rest {
  const client = createFetch<paths>({ baseUrl: options.baseUrl });
  const authorize: Middleware = {
    async onRequest({ request }) {
      request.headers.set("authorization", await bearer(options));
      return request;
    },
  };
  client.use(authorize);
  return client;
}

/** Returns a client of one service over gRPC-Web: `await grpcWeb(GrantService, options).getGrant({ name: "grants/abc" })`. */
export function grpcWeb<Service extends DescService>(service: Service, options: Options): Client<Service> {
  const authorize: Interceptor = (next) => async (request) => {
    request.header.set("authorization", await bearer(options));
    return next(request);
  };
  return createClient(service, createGrpcWebTransport({ baseUrl: options.baseUrl, interceptors: [authorize] }));
}

/** Returns the machine-readable reason of an error, of REST's `error` or of what gRPC-Web throws; none of anything else. */
export function reason(error: unknown): string | undefined {
  if (error instanceof ConnectError) {
    return error.findDetails(ErrorInfoSchema)[0]?.reason;
  }
  const details = (error as Partial<Schema<"Status">> | null | undefined)?.details ?? [];
  const info = details.find((detail) => detail["@type"] === "type.googleapis.com/google.rpc.ErrorInfo");
  return (info as Schema<"ErrorInfo"> | undefined)?.reason;
}

/** Yields the messages of a REST stream: of `data`, where the call was made with `parseAs: "stream"`. */
export async function* messages<Message>(stream: ReadableStream<Uint8Array>): AsyncGenerator<Message> {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  const reader = stream.getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += decoder.decode(value, { stream: !done });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines.filter((text) => text !== "")) {
        yield JSON.parse(line) as Message;
      }
      if (done) {
        return;
      }
    }
  } finally {
    await reader.cancel();
  }
}

async function bearer(options: Options): Promise<string> {
  return `Bearer ${typeof options.token === "string" ? options.token : await options.token()}`;
}
