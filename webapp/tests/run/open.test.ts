import { OpenRun } from "../../src/run/opened";
import { describe, expect, it } from "vitest";
import { MemoryBytes } from "../../src/model/bytes";
import { encode } from "../../src/model/safetensors";
import type { Picked } from "../../src/open/files";
import { ofInput } from "../../src/open/files";
import { group } from "../../src/open/group";
import { kindOf } from "../../src/open/kinds";
import { add, find, ofLocal, ofServer, routeOf, sources } from "../../src/open/sources";
import { record } from "./helpers";

const CASES = `${JSON.stringify(record("a"))}\n${JSON.stringify(record("b"))}\n`;
const RUN = JSON.stringify({ format: "attributor.run", version: 1, config: { dataset: "made", model: "m" } }, null, 2);
const LIST = JSON.stringify([{ case: { documents: ["x", "y"], supporting_documents: [0] }, attributed_documents: [0], attributed_document_scores: [1] }]);
const picked = (path: string, content: BlobPart): Picked => ({ path, file: new File([content], path.split("/").at(-1)!) });
const kind = (content: string | Uint8Array, name = "file") => kindOf(new MemoryBytes(typeof content === "string" ? new TextEncoder().encode(content) : content), name);
const safetensors = (format?: string) => new Uint8Array(encode({}, format === undefined ? {} : { format }));

describe("kindOf", () => {
  it("detects files that can be opened by their content", async () => {
    expect(await kind(safetensors("attributor.flow"))).toEqual({ kind: "flow" });
    expect(await kind(RUN)).toEqual({ kind: "run" });
    expect(await kind(CASES)).toEqual({ kind: "cases" });
    expect(await kind(`\n${LIST}`)).toEqual({ kind: "list" });
    expect(await kind(JSON.stringify({ results: JSON.parse(LIST) as unknown }, null, 1))).toEqual({ kind: "list" });
    const long = JSON.stringify(record("a", { text: "x".repeat(9_000_000) }));
    expect(await kind(long)).toEqual({ kind: "cases" });
  });

  it.each([
    ["", "is empty"],
    ["PK\u0003\u0004", "zip archive"],
    ["%PDF-1.7", "is a PDF"],
    ["<!doctype html><p>", "web page"],
    ["a,b\n1,2", "plain text"],
    ['{"a": 1}', "JSON of some other kind"],
    ['{"case": {"documents": []}}\n{}', "one attribution a line"],
    ["ab\u0000c", "binary data"],
  ])("says what %j looks like", async (content, words) => expect(await kind(content)).toMatchObject({ kind: "unknown", looks: expect.stringContaining(words) as string }));

  it("distinguishes other safetensors files from damaged ones", async () => {
    expect(await kind(safetensors("attributor.heads"))).toMatchObject({ looks: expect.stringContaining("(attributor.heads)") as string });
    expect(await kind(safetensors())).toMatchObject({ looks: expect.stringContaining("some other program") as string });
    expect(await kind(safetensors("attributor.flow").slice(0, 20))).toMatchObject({ looks: expect.stringContaining("damaged") as string });
    expect(await kind("a,b", "x.csv")).toMatchObject({ looks: "is a table (CSV)" });
  });
});

describe("group", () => {
  it("makes a run of a folder with its flows, without messages about other files", async () => {
    const { found, problems } = await group([
      picked("my run/run.json", RUN),
      picked("my run/cases.1.jsonl", CASES),
      picked("my run/cases.0.jsonl", CASES),
      picked("my run/flows/a.safetensors", safetensors("attributor.flow")),
      picked("my run/notes.json", '{"a": 1}'),
    ]);
    expect(problems).toEqual([]);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ kind: "run", name: "my run", cases: [{ name: "cases.1.jsonl" }, { name: "cases.0.jsonl" }] });
    expect([...(found[0] as { flows: Map<string, File> }).flows.keys()]).toEqual(["a.safetensors"]);
  });

  it("separates several runs of one folder, and single files", async () => {
    const { found } = await group([
      picked("runs/a/cases.jsonl", CASES),
      picked("runs/b/run.json", RUN),
      picked("one.jsonl", CASES),
      picked("two.jsonl", CASES),
      picked("list.json", LIST),
      picked("x.safetensors", safetensors("attributor.flow")),
    ]);
    expect(found.map((one) => `${one.kind} ${one.name}`)).toEqual(["run a", "run b", "run one.jsonl", "run two.jsonl", "list list.json", "flow x.safetensors"]);
  });

  it("joins run.json and cases.jsonl chosen together", async () => {
    const { found } = await group([picked("cases.jsonl", CASES), picked("run.json", RUN)]);
    expect(found).toHaveLength(1);
    expect(found[0]).toMatchObject({ kind: "run", cases: [{ name: "cases.jsonl" }] });
  });

  it("describes an unknown file and lists what can be opened", async () => {
    const { found, problems } = await group([picked("notes.txt", "hello")]);
    expect(found).toEqual([]);
    expect(problems[0]).toMatch(/^notes\.txt looks like plain text\. What can be opened: the folder/);
    expect((await group([])).problems[0]).toMatch(/^There is nothing to open/);
  });

  it("reads only files with known endings from folders", () => {
    const inFolder = (path: string) => Object.defineProperty(new File([""], path.split("/").at(-1)!), "webkitRelativePath", { value: path });
    const files = [inFolder("run/cases.jsonl"), inFolder("run/report.html"), inFolder("run/.cases.jsonl"), new File([""], "notes.txt")];
    expect(ofInput(files as unknown as FileList).map((one) => one.path)).toEqual(["run/cases.jsonl", "notes.txt"]);
    expect(ofInput(null)).toEqual([]);
  });
});

describe("sources", () => {
  it("open a local run with its parts in order", async () => {
    const { found } = await group([
      picked("r/run.json", RUN),
      picked("r/cases.1.jsonl", `${JSON.stringify(record("a", { question: "newer" }))}\n`),
      picked("r/cases.0.jsonl", `${JSON.stringify(record("a", { question: "older" }))}\n`),
    ]);
    const source = ofLocal(found[0]!);
    expect(source).toMatchObject({ id: "file:r", kind: "run", local: true });
    const run = source.run!(OpenRun);
    expect(source.run!(OpenRun)).toBe(run);
    await run.done;
    expect([run.problem.value, run.note.value, run.progress.value]).toEqual([null, null, null]);
    expect(run.digest.value!.title).toBe("made · m");
    expect(run.cases.value!.cases.map((one) => one.question)).toEqual(["newer"]);
    expect((await run.cases.value!.open(0)).variants[0]!.name).toBe("flow/mean");
  });

  it("open run.json alone with a note, and cases alone with another", async () => {
    const alone = ofLocal((await group([picked("run.json", RUN)])).found[0]!).run!(OpenRun);
    await alone.done;
    expect(alone.note.value).toContain("Only run.json is open");
    const cases = ofLocal((await group([picked("cases.jsonl", CASES)])).found[0]!).run!(OpenRun);
    await cases.done;
    expect(cases.note.value).toContain("computed from the cases");
    expect(cases.cases.value!.cases).toHaveLength(2);
  });

  it("open a list, and report why another cannot be opened", async () => {
    const list = ofLocal((await group([picked("list.json", LIST)])).found[0]!).run!(OpenRun);
    await list.done;
    expect(list.cases.value).toMatchObject({ unit: "document" });
    const bad = ofLocal((await group([picked("bad.json", "[1")])).found[0]!).run!(OpenRun);
    await bad.done;
    expect(bad.problem.value).toContain("bad.json is not whole JSON");
  });

  it("have unique ids: the same file replaces itself, another with the same name gets a number", () => {
    const local = (kind: "flow" | "list", content: string) => ofLocal({ kind, name: "f", file: new File([content], "f") });
    add([local("flow", "x")]);
    add([local("list", "x")]);
    add([ofServer({ id: "S", kind: "flow", name: "s", bytes: 1, files: { flow: "F" } })]);
    add([local("list", "xy")]);
    expect(sources.value.map((one) => one.id)).toEqual(["file:f", "file:f (2)", "S", "file:f (3)"]);
    expect(routeOf(find("S")!)).toEqual({ page: "flow", flow: "F" });
    const again = local("flow", "x");
    add([again]);
    expect(sources.value).toHaveLength(4);
    expect(find("file:f")).toBe(again);
    expect(routeOf(find("file:f (2)")!)).toEqual({ page: "run", source: "file:f (2)" });
  });
});
