/** What the caller has, waits for, and had. */
import { type Grant, Grant_State as State, ListGrantsRequest_View as View } from "contract/jitaccess/v1/grant_pb";

import { grants } from "../api";
import { summary } from "../grant/decide";
import { Terms } from "../grant/facts";
import { Acts } from "../grant/own";
import { StateBadge, waitsForMore } from "../grant/state";
import { useNow, useRead } from "../hooks";
import { useMe } from "../me";
import { Empty, Notice, Reading } from "../parts/notice";
import { TimeBar, When } from "../parts/time";
import { Link } from "../router";
import { open, person } from "../words/text";
import { instant, span, spell } from "../words/time";

const LIVE = "state = PENDING OR state = SCHEDULED OR state = ACTIVE";

export function Mine() {
  const now = useNow();
  const live = useRead(() => grants.listGrants({ view: View.MINE, filter: LIVE, pageSize: 200 }), [], true);
  const ended = useRead(() => grants.listGrants({ view: View.MINE, filter: `NOT (${LIVE})`, pageSize: 20 }), [], true);
  const again = () => {
    void live.again();
    void ended.again();
  };
  return (
    <>
      <p><Link to="/ask" class="button go">Ask for access</Link></p>
      <Reading of={live}>
        {(answer) => (
          <>
            <Group title="Waiting" of={answer.grants.filter((grant) => grant.state === State.PENDING)} now={now} onDone={again} none="Nothing of yours waits for a decision." />
            <Group title="Scheduled" of={answer.grants.filter((grant) => grant.state === State.SCHEDULED)} now={now} onDone={again} none="" />
            <Group title="Active" of={answer.grants.filter((grant) => grant.state === State.ACTIVE)} now={now} onDone={again} none="You have no access that runs." />
          </>
        )}
      </Reading>
      <Reading of={ended}>{(answer) => <Group title="Ended lately" of={answer.grants} now={now} onDone={again} none="Nothing has ended." />}</Reading>
    </>
  );
}

interface GroupProps {
  readonly title: string;
  readonly of: readonly Grant[];
  readonly now: number;
  readonly onDone: () => void;
  readonly none: string;
}

function Group({ title, of, now, onDone, none }: GroupProps) {
  if (of.length === 0 && none === "") {
    return null;
  }
  return (
    <section>
      <h2>{title}</h2>
      {of.length === 0 ? <Empty>{none}</Empty> : <ul class="cards">{of.map((grant) => <Card key={grant.name} grant={grant} now={now} onDone={onDone} />)}</ul>}
    </section>
  );
}

function Card({ grant, now, onDone }: { readonly grant: Grant; readonly now: number; readonly onDone: () => void }) {
  const me = useMe();
  const isOthers = grant.subject !== me.principal;
  return (
    <li class="card">
      <div class="card-head">
        <StateBadge state={grant.state} />
        <Link to={`/${grant.name}`}>{summary(grant)}</Link>
      </div>
      {isOthers ? <p>for {open(person(grant.subject))}</p> : null}
      <Time grant={grant} now={now} />
      {waitsForMore(grant) ? <p>Asked for {spell(span(grant.extension?.duration))} more; nobody has decided yet.</p> : null}
      {grant.counterOffer && grant.state === State.PENDING ? (
        <Notice tone="warn">
          {open(person(grant.counterOffer.reviewer))} offers {grant.counterOffer.terms ? <Terms terms={grant.counterOffer.terms} now={now} /> : null}
          {grant.counterOffer.comment ? <p class="said">{open(grant.counterOffer.comment)}</p> : null}
        </Notice>
      ) : null}
      {grant.endComment ? <p class="said">{open(grant.endComment)}</p> : null}
      <div class="actions"><Acts grant={grant} me={me.principal} onDone={onDone} /></div>
    </li>
  );
}

function Time({ grant, now }: { readonly grant: Grant; readonly now: number }) {
  const [start, end] = [instant(grant.startTime), instant(grant.expireTime)];
  if (grant.state === State.ACTIVE && start !== undefined && end !== undefined) {
    return <TimeBar from={start} to={end} now={now} label="Time left" />;
  }
  if (grant.state === State.PENDING) {
    return <p class="soft">lapses without a decision <When at={instant(grant.requestExpireTime)} now={now} /></p>;
  }
  if (grant.state === State.SCHEDULED) {
    return <p>begins <When at={start} now={now} /></p>;
  }
  return <p class="soft">ended <When at={instant(grant.endTime) ?? end ?? instant(grant.requestExpireTime)} now={now} />{grant.endedBy ? `, by ${person(grant.endedBy)}` : ""}</p>;
}
