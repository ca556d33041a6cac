/** The connections below a case: their code and their numbers come when a reader scrolls there. */

import type { ComponentType, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Part } from "./Part";

const load = async (): Promise<ComponentType<object>> => (await import("../canvas/Connections")).Connections;

/** For the `extra` slot of a case page that has a server or local files behind it; exported pages have no code for it. */
export function Below(): JSX.Element {
  const root = useRef<HTMLDivElement>(null);
  const [near, setNear] = useState(false);
  useEffect(() => {
    const observer = new IntersectionObserver((entries) => entries.some((one) => one.isIntersecting) && setNear(true), { rootMargin: "150px" });
    observer.observe(root.current!);
    return () => observer.disconnect();
  }, []);
  return (
    <div class="app-below" ref={root}>
      {near && <Part load={load} with={{}} />}
    </div>
  );
}
