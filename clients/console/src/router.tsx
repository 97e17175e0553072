/** Addresses within the console. A page begins with its heading focused, so that a screen reader says where one is. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useState } from "preact/hooks";

export const HOME = "/console";
const MOVED = "jit-moved";

/** Goes to an address of the console: `/grants/abc`. */
export function go(path: string): void {
  history.pushState(null, "", HOME + path);
  window.dispatchEvent(new Event(MOVED));
}

/** Changes the query of the address in place, so that a link to the page shows the same. */
export function keepQuery(values: Record<string, string>): void {
  const query = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
  const text = query.toString();
  history.replaceState(null, "", location.pathname + (text === "" ? "" : `?${text}`));
}

export function query(name: string): string {
  return new URLSearchParams(location.search).get(name) ?? "";
}

/** The path after `/console`, without a slash at its end: `` or `/grants/abc`. */
export function usePath(): string {
  const [path, setPath] = useState(pathNow);
  useEffect(() => {
    const move = () => setPath(pathNow());
    window.addEventListener("popstate", move);
    window.addEventListener(MOVED, move);
    return () => {
      window.removeEventListener("popstate", move);
      window.removeEventListener(MOVED, move);
    };
  }, []);
  return path;
}

function pathNow(): string {
  return location.pathname.slice(HOME.length).replace(/\/+$/, "");
}

interface LinkProps {
  readonly to: string;
  readonly children: ComponentChildren;
  readonly class?: string;
  readonly current?: boolean;
}

export function Link({ to, children, current, ...rest }: LinkProps) {
  const follow = (event: JSX.TargetedMouseEvent<HTMLAnchorElement>) => {
    if (event.button === 0 && !event.metaKey && !event.ctrlKey && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      go(to);
    }
  };
  return (
    <a href={HOME + to} onClick={follow} {...(current ? { "aria-current": "page" as const } : {})} {...rest}>
      {children}
    </a>
  );
}
