import { type AuditEvent, AuditEvent_EventType as Type } from "contract/jitaccess/v1/audit_pb";

import { useNow } from "../hooks";
import { LogIn } from "../parts/login";
import { Empty } from "../parts/notice";
import { When } from "../parts/time";
import { Link } from "../router";
import { last, open, person, sentence } from "../words/text";
import { instant } from "../words/time";

export function AuditTable({ events }: { readonly events: readonly AuditEvent[] }) {
  const now = useNow(60_000);
  if (events.length === 0) {
    return <Empty>There is no record of this.</Empty>;
  }
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label="Audit records">
      <table class="stacks" role="table">
        <thead role="rowgroup">
          <tr role="row"><th scope="col" role="columnheader">No.</th><th scope="col" role="columnheader">When</th><th scope="col" role="columnheader">What</th><th scope="col" role="columnheader">Who</th><th scope="col" role="columnheader">About</th><th scope="col" role="columnheader">Result</th></tr>
        </thead>
        <tbody role="rowgroup">
          {events.map((event) => (
            <tr role="row" key={`${event.seq}`}>
              <td role="cell">{`${event.seq}`}</td>
              <td role="cell"><When at={instant(event.eventTime)} now={now} /></td>
              <td role="cell">{sentence(Type[event.eventType])}{event.grant ? <div><Link to={`/${event.grant}`}>{last(event.grant)}</Link></div> : null}</td>
              <td role="cell">{open(person(event.principal))}{event.subject && event.subject !== event.principal ? <div class="soft">about {open(person(event.subject))}</div> : null}<LogIn of={event} now={now} /></td>
              <td role="cell"><code>{open(event.actions.join(", "))}</code> <code>{open(event.resources.join(", "))}</code>{event.message ? <p class="said">{open(event.message)}</p> : null}</td>
              <td role="cell">{event.decision} {event.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
