// Asks, approves and checks by both clients, and prints as JSON what came of it. What it needs comes on stdin, since it
// holds tokens; tests/typescript/test_client.py judges the answer.
import { text } from "node:stream/consumers";

import { AccessService, ConnectError, GrantService, grpcWeb, messages, reason, rest } from "../src/index.js";
import type { Options, Schema } from "../src/index.js";

interface Given {
  url: string;
  tokens: Record<"alice" | "bob" | "gateway" | "auditor", string>;
  alice: string;
  resource: string;
}

const given = JSON.parse(await text(process.stdin)) as Given;
const as = (person: keyof Given["tokens"]): Options => ({ baseUrl: given.url, token: () => given.tokens[person] });
const question = { subject: given.alice, action: "read", resource: given.resource };

const asked = await rest(as("alice")).POST("/v1/grants", {
  body: { resources: [given.resource], actions: ["read"], duration: "600s" },
});
const name = asked.data?.name ?? "";
const grant = name.replace("grants/", "");

const before = await rest(as("gateway")).POST("/v1/access:check", { body: question });
const approved = await grpcWeb(GrantService, as("bob")).approveGrant({ name, comment: "fine" });
const byRest = await rest(as("gateway")).POST("/v1/access:check", { body: question });
const byGrpcWeb = await grpcWeb(AccessService, as("gateway")).checkAccess(question);

const there = { ...question, context: { source_ip: "192.0.2.7" } };
const fromThere = await rest(as("gateway")).POST("/v1/access:check", { body: there });
const fromNowhere = await grpcWeb(AccessService, as("gateway"))
  .checkAccess({ ...question, context: { source_ip: "office" } })
  .catch((error: unknown) => error);

const again = await rest(as("bob")).POST("/v1/grants/{grant}:approve", { params: { path: { grant } }, body: {} });
const refusedByGrpcWeb = await grpcWeb(GrantService, as("bob"))
  .approveGrant({ name })
  .catch((error: unknown) => error);

const listed = await rest(as("alice")).GET("/v1/grants", { params: { query: { view: "MINE", pageSize: 5 } } });
const unknown = await rest({ ...as("alice"), token: "no" }).GET("/v1/grants/{grant}", { params: { path: { grant } } });

const watched = await rest(as("alice")).GET("/v1/grants:watch", { parseAs: "stream" });
const overRest: string[] = [];
if (watched.data) {
  for await (const event of messages<Schema<"WatchGrantsResponse">>(watched.data)) {
    overRest.push(`${event.eventType} ${event.grant?.name}`);
    break;
  }
}
const query = { filter: `grant = "${name}"` };
const exported = await rest(as("auditor")).GET("/v1/auditEvents:export", { params: { query }, parseAs: "stream" });
const recorded: unknown[] = [];
if (exported.data) {
  for await (const event of messages<Schema<"AuditEvent">>(exported.data)) {
    recorded.push(event.eventType);
  }
}
const stop = new AbortController();
const overGrpcWeb: string[] = [];
for await (const event of grpcWeb(GrantService, as("alice")).watchGrants({}, { signal: stop.signal })) {
  overGrpcWeb.push(event.grant?.name ?? "");
  break;
}
stop.abort();

console.log(
  JSON.stringify({
    asked: asked.data?.state,
    name,
    before: before.data?.reason,
    approved: [approved.state, approved.duration?.seconds.toString()],
    byRest: [byRest.data?.allowed, byRest.data?.grant],
    fromThere: fromThere.data?.allowed,
    fromNowhere: reason(fromNowhere),
    byGrpcWeb: [byGrpcWeb.allowed, byGrpcWeb.grant],
    refusedByRest: [again.response.status, again.error?.code, reason(again.error)],
    refusedByGrpcWeb: [ConnectError.from(refusedByGrpcWeb).code, reason(refusedByGrpcWeb)],
    listed: listed.data?.grants?.map((each) => each.name),
    unauthenticated: [unknown.response.status, reason(unknown.error)],
    overRest,
    overGrpcWeb,
    recorded,
  }),
);
