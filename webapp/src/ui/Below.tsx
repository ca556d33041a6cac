/** The connections below a case. Code and numbers are loaded when the user scrolls near. */

import type { ComponentType, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { Part } from "./Part";

const load = async (): Promise<ComponentType<object>> => (await import("../canvas/Connections")).Connections;

/** For the `extra` slot of case pages with a server or local files. Exported pages lack the code. */
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
