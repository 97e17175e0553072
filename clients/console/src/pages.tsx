/** All pages with their addresses and who finds them in the navigation. What a page may show, the service decides. */
import type { WhoAmIResponse } from "contract/jitaccess/v1/access_pb";
import type { ComponentChildren } from "preact";

import { reads, responds } from "./me";
import { Ask } from "./pages/ask";
import { Audit } from "./pages/audit";
import { Delegations } from "./pages/delegations";
import { OneGrant } from "./pages/grant";
import { AllGrants, ReviewsOwed } from "./pages/grants";
import { Inbox } from "./pages/inbox";
import { Locks } from "./pages/locks";
import { Mine } from "./pages/mine";
import { Overview } from "./pages/overview";
import { OnePolicy, Policies } from "./pages/policies";
import { Signals } from "./pages/signals";
import { Link } from "./router";

export interface Page {
  readonly path: string;
  readonly title: string;
  readonly show: (argument: string) => ComponentChildren;
  /** In the navigation of these people; of nobody where it is false. */
  readonly isFor: (me: WhoAmIResponse) => boolean;
}

const everybody = () => true;

const PAGES: readonly Page[] = [
  { path: "/inbox", title: "Inbox", show: () => <Inbox />, isFor: everybody },
  { path: "/mine", title: "My access", show: () => <Mine />, isFor: everybody },
  { path: "/ask", title: "Ask", show: () => <Ask />, isFor: everybody },
  { path: "/overview", title: "Overview", show: () => <Overview />, isFor: reads },
  { path: "/grants", title: "All grants", show: () => <AllGrants />, isFor: everybody },
  { path: "/reviews", title: "Reviews owed", show: () => <ReviewsOwed />, isFor: everybody },
  { path: "/policies", title: "Policies", show: () => <Policies />, isFor: everybody },
  { path: "/delegations", title: "Delegations", show: () => <Delegations />, isFor: everybody },
  { path: "/audit", title: "Audit", show: () => <Audit />, isFor: reads },
  { path: "/signals", title: "Signals", show: () => <Signals />, isFor: reads },
  { path: "/locks", title: "Locks", show: () => <Locks />, isFor: (me) => reads(me) || responds(me) },
  { path: "/grants/", title: "One grant", show: (id) => <OneGrant id={id} />, isFor: () => false },
  { path: "/policies/", title: "One policy", show: (id) => <OnePolicy id={id} />, isFor: () => false },
];

const NOWHERE: Page = { path: "", title: "There is no such page", show: () => <p><Link to="/inbox">To the inbox</Link></p>, isFor: () => false };

export function pagesFor(me: WhoAmIResponse): readonly Page[] {
  return PAGES.filter((page) => page.isFor(me));
}

/** Returns the page at the path, and what the path says beyond it. The first page is the inbox. */
export function pageAt(path: string): { page: Page; argument: string } {
  const exact = PAGES.find((page) => page.path === (path || "/inbox"));
  const within = PAGES.find((page) => page.path.endsWith("/") && path.startsWith(page.path));
  return { page: exact ?? within ?? NOWHERE, argument: decodeURIComponent(path.slice(within?.path.length ?? path.length)) };
}
