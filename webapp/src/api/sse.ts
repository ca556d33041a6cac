/** Parses server-sent events from a stream of bytes, by the HTML standard. */

export interface ServerEvent {
  event: string;
  data: string;
}

/** The events of a stream until it ends. An incomplete last event is dropped. */
export async function* readEvents(stream: ReadableStream<Uint8Array>): AsyncGenerator<ServerEvent, void, void> {
  const reader = stream.getReader();
  const decoder = new TextDecoder(); // drops a byte order mark, as the standard requires
  let rest = "";
  let event = "";
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      rest += done ? decoder.decode() : decoder.decode(value, { stream: true });
      // A \r at the end of the received text may be the first half of \r\n.
      const lines = (done || !rest.endsWith("\r") ? rest : rest.slice(0, -1)).split(/\r\n|\r|\n/);
      const tail = lines.pop()!;
      rest = !done && rest.endsWith("\r") ? `${tail}\r` : tail;
      for (const line of lines) {
        if (line === "") {
          if (data.length) yield { event: event || "message", data: data.join("\n") };
          event = "";
          data = [];
          continue;
        }
        const [, field, content] = /^([^:]*):? ?([^]*)$/.exec(line)!;
        if (field === "event") event = content!;
        else if (field === "data") data.push(content!);
      }
      if (done) return;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}
