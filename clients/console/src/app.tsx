/** The frame around all pages: who is there, where to go, and what the keys do. */
import { ListGrantsRequest_View as View } from "contract/jitaccess/v1/grant_pb";
import type { WhoAmIResponse } from "contract/jitaccess/v1/access_pb";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";

import { access, grants } from "./api";
import { useRead } from "./hooks";
import { areOn, boundKeys, listen, switchKeys } from "./keys";
import { onLink, watch, type Link as Stream } from "./live";
import { Me } from "./me";
import { Dialog } from "./parts/dialog";
import { FaultNotice, Notice } from "./parts/notice";
import { type Page, pageAt, pagesFor } from "./pages";
import { Link, usePath } from "./router";
import { current, logIn, logOut, onChange, type Phase } from "./session/session";
import { open, person } from "./words/text";

export function App() {
  const [phase, setPhase] = useState<Phase>(current);
  useEffect(() => onChange(() => setPhase(current())), []);
  // A session that is over hides nothing: what was typed stays until its user is back or goes away.
  const wasIn = useRef(false);
  wasIn.current = phase.is === "in" || (phase.is === "over" && wasIn.current);
  return (
    <>
      {wasIn.current ? <Inside isOver={phase.is === "over"} /> : <Outside phase={phase} />}
      {phase.is === "over" ? <Over at={phase.at} /> : null}
    </>
  );
}

function Outside({ phase }: { readonly phase: Phase }) {
  useEffect(() => {
    document.title = "Log in · Access";
  }, []);
  return (
    <main class="outside">
      <h1>Access, when it is needed</h1>
      {phase.is === "out" ? (
        <>
          <p>Ask for access, decide what others ask for, and see who has what.</p>
          {phase.fault ? <Notice tone="bad">{open(phase.fault)}</Notice> : null}
          <button type="button" class="go" onClick={() => void logIn()}>{phase.at ? `Log in at ${phase.at}` : "Log in"}</button>
        </>
      ) : (
        <p role="status">Logging in …</p>
      )}
    </main>
  );
}

/** Said once over everything, and then above the page, so that its user can still copy what was typed. */
function Over({ at }: { readonly at: string }) {
  const [isClosed, setClosed] = useState(false);
  const words = "Nothing that you do here reaches the service now. Log in again to go on where you are.";
  const button = <button type="button" class="go" onClick={() => void logIn()}>{at ? `Log in at ${at}` : "Log in"}</button>;
  if (isClosed) {
    return <aside class="over" aria-label="Your session is over"><Notice tone="bad">Your session is over. {words} {button}</Notice></aside>;
  }
  return (
    <Dialog title="Your session is over" onClose={() => setClosed(true)}>
      <p>{words}</p>
      <div class="actions">{button}</div>
    </Dialog>
  );
}

function Inside({ isOver }: { readonly isOver: boolean }) {
  const me = useRead(() => access.whoAmI({}), []);
  useEffect(() => (isOver ? undefined : watch()), [isOver]);
  if (me.answer === undefined) {
    return <main class="outside">{me.fault ? <><h1>Access</h1><FaultNotice fault={me.fault} /><div class="actions"><button type="button" onClick={() => void me.again()}>Try again</button><button type="button" onClick={() => void logOut()}>Log out</button></div></> : <p role="status">Asking who you are …</p>}</main>;
  }
  return <Me.Provider value={me.answer}><Frame me={me.answer} /></Me.Provider>;
}

function Frame({ me }: { readonly me: WhoAmIResponse }) {
  const path = usePath();
  const [isHelping, setHelping] = useState(false);
  useEffect(() => listen(() => setHelping(true)), []);
  const { page, argument } = pageAt(path);
  return (
    <>
      <a class="skip" href="#main">To the page</a>
      <header class="top">
        <Link to="" class="brand">Access</Link>
        <Navigation me={me} page={page} />
        <div class="who">
          <Connection />
          <span title={me.roles.join(", ")}>{open(person(me.principal))}</span>
          <button type="button" class="quiet" onClick={() => setHelping(true)} aria-label="Keys and help">?</button>
          <button type="button" class="quiet" onClick={() => void logOut()}>Log out</button>
        </div>
      </header>
      <Main key={path} page={page}>{page.show(argument)}</Main>
      {isHelping ? <Help onClose={() => setHelping(false)} /> : null}
    </>
  );
}

function Main({ page, children }: { readonly page: Page; readonly children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${page.title} · Access`;
    heading.current?.focus({ preventScroll: true });
    window.scrollTo(0, 0);
  }, [page]);
  return (
    <main id="main">
      <h1 ref={heading} tabIndex={-1}>{page.title}</h1>
      {children}
    </main>
  );
}

function Navigation({ me, page }: { readonly me: WhoAmIResponse; readonly page: Page }) {
  const waiting = useRead(() => grants.listGrants({ view: View.REVIEWABLE, pageSize: 100 }), [], true);
  const number = waiting.answer?.grants.length ?? 0;
  return (
    <nav aria-label="Pages">
      <ul>
        {pagesFor(me).map((each) => (
          <li key={each.path}>
            <Link to={each.path} current={each.path === page.path}>
              {each.title}
              {each.path === "/inbox" && number > 0 ? <span class="count"> {number}{waiting.answer?.nextPageToken ? "+" : ""}<span class="hidden"> waiting</span></span> : null}
            </Link>
          </li>
        ))}
      </ul>
    </nav>
  );
}

const LINKS: Record<Stream, string> = { live: "Live", asking: "Asking every few seconds", away: "Not connected" };

function Connection() {
  const [stream, setStream] = useState<Stream>("away");
  useEffect(() => {
    const off = onLink(setStream);
    return () => void off();
  }, []);
  return <span class={`stream ${stream}`} role="status" title={LINKS[stream]}><span aria-hidden="true">{stream === "live" ? "●" : "○"}</span><span class="hidden">{LINKS[stream]}</span></span>;
}

function Help({ onClose }: { readonly onClose: () => void }) {
  const [on, setOn] = useState(areOn);
  const keys = Object.entries(boundKeys());
  return (
    <Dialog title="Keys" onClose={onClose}>
      {keys.length === 0 ? <p>This page has no keys of its own.</p> : <dl class="facts">{keys.map(([key, { does }]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{does}</dd></div>)}</dl>}
      <dl class="facts"><div><dt><kbd>?</kbd></dt><dd>This help</dd></div><div><dt><kbd>Esc</kbd></dt><dd>Close what is open</dd></div></dl>
      <label class="check"><input type="checkbox" checked={on} onChange={(event) => { switchKeys(event.currentTarget.checked); setOn(event.currentTarget.checked); }} /> Single keys do something</label>
    </Dialog>
  );
}
