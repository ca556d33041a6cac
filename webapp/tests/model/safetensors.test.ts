import { describe, expect, test, vi } from "vitest";
import { BlobBytes, HttpBytes, MemoryBytes } from "../../src/model/bytes";
import { decode, encode, SafetensorsFile, toFloats, toIntegers } from "../../src/model/safetensors";
import { UserError } from "../../src/model/types";

/** A file with this header, unchanged, and `data` bytes. */
export function fileOf(header: string | Uint8Array, data = 0): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header;
  const out = new Uint8Array(8 + json.length + data);
  new DataView(out.buffer).setBigUint64(0, BigInt(json.length), true);
  out.set(json, 8);
  return out;
}

const ONE = '"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}';
const TWO = '"b":{"dtype":"U8","shape":[4],"data_offsets":[8,12]}';

describe("headers", () => {
  test.each<[string, Uint8Array, RegExp]>([
    ["nothing", new Uint8Array(0), /not a safetensors file, or only the beginning of one \(0 bytes\)/],
    ["a few bytes", new Uint8Array(3), /only the beginning/],
    ["text", new TextEncoder().encode("just some text that is no flow at all"), /only the beginning/],
    ["a length of 2^63", new Uint8Array([0, 0, 0, 0, 0, 0, 0, 128, 123, 125]), /only the beginning/],
    ["a header longer than the file", fileOf("{}").slice(0, 9), /only the beginning/],
    ["no JSON", fileOf("not json.."), /header cannot be read/],
    ["a list", fileOf("[]"), /not an object/],
    ["null", fileOf("null"), /not an object/],
    ["no UTF-8", fileOf(new Uint8Array([0xff, 0xfe])), /header cannot be read/],
    ["a BOM", fileOf("\ufeff{}"), /byte order mark/],
    ["deep nesting", fileOf(`{"a":${"[".repeat(199_995)}`), /header cannot be read/],
    ["closed deep nesting", fileOf(`{"a":${"[".repeat(50_000)}${"]".repeat(50_000)}}`), /must have dtype, shape/],
    ["a header that is all brackets", fileOf(`{"a":[${"[],".repeat(2_000_000)}[]]}`), /besides its strings/],
    ["more than 32 dimensions", fileOf(`{${ONE.replace("[2]", `[2${",1".repeat(32)}]`)}}`, 8), /shape that is not/],
    ["a key of its own", fileOf(`{${ONE.replace('"shape"', '"x":1,"shape"')}}`, 8), /must have dtype/],
    ["a name twice", fileOf(`{${ONE},${ONE}}`, 8), /"a" is there twice/],
    ["a name twice, once escaped", fileOf(`{${ONE},${ONE.replace("a", "\\u0061")}}`, 8), /"a" is there twice/],
    ["metadata twice", fileOf('{"__metadata__":{},"__metadata__":{}}'), /there twice/],
    ["a metadata key twice", fileOf('{"__metadata__":{"x":"1","x":"2"}}'), /"x" is there twice/],
    ["two dtypes", fileOf('{"a":{"dtype":"F32","dtype":"U8","shape":[0],"data_offsets":[0,0]}}'), /there twice/],
    ["__proto__", fileOf(`{${ONE.replace('"a"', '"__proto__"')}}`, 8), /"__proto__" is not allowed/],
    ["__proto__ escaped", fileOf(`{${ONE.replace('"a"', '"_\\u005fproto__"')}}`, 8), /not allowed/],
    ["__proto__ in metadata", fileOf('{"__metadata__":{"__proto__":"x"}}'), /not allowed/],
    ["constructor", fileOf(`{${ONE.replace('"a"', '"constructor"')}}`, 8), /not allowed/],
    ["metadata that is no string", fileOf('{"__metadata__":{"a":1}}'), /metadata "a" is not a string/],
    ["an unknown dtype", fileOf(`{${ONE.replace("F32", "F13")}}`, 8), /"a" has the unknown dtype "F13"/],
    ["a dtype of Object", fileOf(`{${ONE.replace("F32", "toString")}}`, 8), /unknown dtype/],
    ["no dtype", fileOf('{"a":{"shape":[2],"data_offsets":[0,8]}}', 8), /must have dtype/],
    ["a negative size", fileOf(`{${ONE.replace("[2]", "[-2]")}}`, 8), /shape that is not a list of sizes/],
    ["half a size", fileOf(`{${ONE.replace("[2]", "[2.5]")}}`, 8), /shape that is not/],
    ["a size that is text", fileOf(`{${ONE.replace("[2]", '["2"]')}}`, 8), /shape that is not/],
    ["a shape that overflows", fileOf(`{${ONE.replace("[2]", "[4294967296,4294967296]")}}`, 8), /needs .* bytes/],
    ["a shape too large for its place", fileOf(`{${ONE.replace("[2]", "[3]")}}`, 8), /needs 12 bytes, its place has 8/],
    ["one offset", fileOf(`{${ONE.replace("[0,8]", "[0]")}}`, 8), /data_offsets that are not two/],
    ["offsets backwards", fileOf(`{${ONE.replace("[0,8]", "[8,0]")}}`, 8), /bytes 8 to 0, outside/],
    ["offsets past the end", fileOf(`{${ONE}}`, 7), /bytes 0 to 8, outside of the 7/],
    ["an overlap", fileOf(`{${ONE},${TWO.replace("[8,12]", "[4,8]")}}`, 8), /"b" overlaps another/],
    ["the same place twice", fileOf(`{${ONE},${ONE.replace("a", "c")}}`, 8), /overlaps another/],
    ["a hole", fileOf(`{${ONE},${TWO.replace("[8,12]", "[9,13]")}}`, 13), /1 bytes before tensor "b" belong to none/],
    ["more after the end", fileOf(`{${ONE}}`, 12), /4 bytes after the last tensor/],
  ])("refused: %s", async (_, bytes, message) => {
    expect(() => decode(bytes, "x")).toThrow(message);
    expect(() => decode(bytes, "x")).toThrow(UserError);
    await expect(SafetensorsFile.open(new MemoryBytes(bytes), "x")).rejects.toThrow(message);
    expect(({} as Record<string, unknown>).dtype).toBeUndefined();
  });

  test("errors name the file and the expected kind", async () => {
    await expect(SafetensorsFile.open(new MemoryBytes(new Uint8Array(4)), "my.txt", "a flow file")).rejects.toThrow(
      /^my.txt is not a flow file, or only the beginning of one \(4 bytes\): flow.save/,
    );
  });

  test("a header longer than 100 MB is not read, for any file size", async () => {
    const read = vi.fn(async () => new Uint8Array([1, 0xe1, 0xf5, 5, 0, 0, 0, 0]));
    await expect(SafetensorsFile.open({ size: 1e12, read }, "big")).rejects.toThrow(/not a safetensors file/);
    expect(read).toHaveBeenCalledTimes(1);
  });

  test("long names are cut in messages", () => {
    const long = "n".repeat(100_000);
    expect(() => decode(fileOf(`{"${long}":{}}`))).toThrow(/^.{0,300}$/);
  });

  test("every truncation is refused", () => {
    const whole = encode({ a: { data: new Float32Array(5) }, b: { data: new Uint8Array(3) } }, { format: "x" });
    expect(decode(whole).tensors.size).toBe(2);
    for (let length = 0; length < whole.length; length++) expect(() => decode(whole.slice(0, length))).toThrow(UserError);
  });
});

describe("tensors", () => {
  const tensors = {
    u8: { data: new Uint8Array([1, 2, 255]) },
    f32: { data: new Float32Array([1.5, -2, 3, 4, 5, 6]), shape: [3, 2] },
    i64: { data: new BigInt64Array([-5n, 2n ** 40n]) },
    i32: { data: new Int32Array([-1, 2]), shape: [1, 2] },
    u16: { data: new Uint16Array([65535]) },
    f64: { data: new Float64Array([Math.PI]) },
    none: { data: new Float32Array(0), shape: [0, 7] },
  };
  const file = encode(tensors, { format: "t", "__odd key": 'quote " and ⟦' });

  test("survive encoding, read from memory and in slices", async () => {
    const whole = decode(file);
    expect(whole.metadata.get("__odd key")).toBe('quote " and ⟦');
    const lazy = await SafetensorsFile.open(new BlobBytes(new Blob([file])), "f");
    expect([...lazy.tensors.keys()].sort()).toEqual(Object.keys(tensors).sort());
    for (const [name, { data }] of Object.entries(tensors)) {
      expect(whole.tensors.get(name)!.data).toEqual(data);
      expect((await lazy.read(name)).data).toEqual(data);
    }
    expect(whole.tensors.get("f32")!.shape).toEqual([3, 2]);
  });

  test("are read by rows and columns", async () => {
    const lazy = await SafetensorsFile.open(new MemoryBytes(file), "f");
    expect(await lazy.rows("f32", 1, 3)).toEqual(new Float32Array([3, 4, 5, 6]));
    expect(await lazy.rows("f32", 1, 1)).toEqual(new Float32Array(0));
    expect(await lazy.rows("u8", 1, 3)).toEqual(new Uint8Array([2, 255]));
    expect(await lazy.slice("f32", 2, 1, 2)).toEqual(new Float32Array([6]));
    await expect(lazy.rows("f32", 2, 4)).rejects.toThrow(/Rows 2 to 4 of "f32" .* it has 3/);
    await expect(lazy.slice("f32", 3, 0, 1)).rejects.toThrow(UserError);
    await expect(lazy.slice("f32", 0, 0, 3)).rejects.toThrow(UserError);
    await expect(lazy.read("f33")).rejects.toThrow('no tensor "f33"');
  });

  test("only the requested bytes are read", async () => {
    const inner = new MemoryBytes(file);
    const read = vi.fn((a: number, b: number) => inner.read(a, b));
    const lazy = await SafetensorsFile.open({ size: inner.size, read }, "f");
    read.mockClear();
    await lazy.rows("f32", 1, 2);
    expect(read.mock.calls.map(([a, b]) => b - a)).toEqual([8]);
  });

  test("unaligned tensors are copied", () => {
    const shifted = new Uint8Array(file.length + 1);
    shifted.set(file, 1);
    expect(decode(shifted.subarray(1)).tensors.get("f64")!.data).toEqual(tensors.f64.data);
    const odd = fileOf('{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}', 5);
    expect(decode(odd).tensors.get("b")!.data).toEqual(new Float32Array([0]));
  });

  test("of all float dtypes are converted", () => {
    const bits = new Uint16Array([0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x7e00, 0]);
    expect([...toFloats({ dtype: "F16", data: bits }, "x")]).toEqual([1, -2, 2 ** -24, 65504, Infinity, NaN, 0]);
    expect([...toFloats({ dtype: "BF16", data: new Uint16Array([0x3f80, 0xc000]) }, "x")]).toEqual([1, -2]);
    expect([...toFloats({ dtype: "F64", data: new Float64Array([0.5]) }, "x")]).toEqual([0.5]);
    expect(() => toFloats({ dtype: "I32", data: new Int32Array(1) }, "scores")).toThrow("scores must be floats, got I32");
  });

  test("of all integer dtypes are converted", () => {
    expect([...toIntegers({ dtype: "I64", data: new BigInt64Array([-3n]) }, "x")]).toEqual([-3]);
    expect([...toIntegers({ dtype: "U16", data: new Uint16Array([9]) }, "x")]).toEqual([9]);
    expect(() => toIntegers({ dtype: "I64", data: new BigInt64Array([2n ** 40n]) }, "ids")).toThrow(/ids .* too large/);
    expect(() => toIntegers({ dtype: "F32", data: new Float32Array(1) }, "ids")).toThrow("must be integers, got F32");
  });

  test("a wrong shape in encode raises an error", () => {
    expect(() => encode({ a: { data: new Float32Array(3), shape: [2, 2] } })).toThrow(/has not 4|has not 3/);
  });
});

describe("bytes", () => {
  const content = Uint8Array.from({ length: 200_000 }, (_, i) => i % 251);

  /** A server of `content`. `asked` records the requests. */
  function serve(asked: string[], change: (answer: Response, asked: number) => Response = (a) => a): void {
    vi.stubGlobal("fetch", async (_: string, { headers }: { headers: { Range: string } }) => {
      const [start, last] = /(\d+)-(\d+)/.exec(headers.Range)!.slice(1).map(Number) as [number, number];
      asked.push(`${start}-${last}`);
      const stop = Math.min(last + 1, content.length);
      const range = { "Content-Range": `bytes ${start}-${stop - 1}/${content.length}`, ETag: '"1"' };
      return change(new Response(content.slice(start, stop), { status: 206, headers: range }), asked.length);
    });
  }

  test("of a server are fetched by ranges; bytes of the first request are not fetched again", async () => {
    const asked: string[] = [];
    serve(asked);
    const bytes = await HttpBytes.open("/api/files/x");
    expect(bytes.size).toBe(200_000);
    expect(await bytes.read(10, 20)).toEqual(content.slice(10, 20));
    expect(asked).toEqual(["0-65535"]);
    expect(await bytes.read(150_000, 150_003)).toEqual(content.slice(150_000, 150_003));
    expect(asked).toEqual(["0-65535", "150000-150002"]);
    await expect(bytes.read(199_999, 200_001)).rejects.toThrow(/the file has 200000/);
    vi.unstubAllGlobals();
  });

  test.each<[string, (answer: Response) => Response, RegExp]>([
    ["exchanged", () => new Response("abc", { status: 206, headers: { "Content-Range": "bytes 0-2/200000", ETag: '"2"' } }), /changed while/],
    ["shorter now", () => new Response("abc", { status: 206, headers: { "Content-Range": "bytes 0-2/3" } }), /changed while/],
    ["cut off", () => new Response("a", { status: 206, headers: { "Content-Range": "bytes 0-2/200000" } }), /changed while/],
    ["gone", () => Response.json({ error: { code: "gone", message: "That file is gone." } }, { status: 404 }), /^That file is gone.$/],
    ["refused without words", () => new Response("<html>", { status: 500 }), /refused to send the file \(500\)/],
    ["silent", () => { throw new TypeError("fetch failed"); }, /does not answer/],
  ])("of a server's file that is %s", async (_, second, message) => {
    serve([], (answer, asked) => (asked > 1 ? second(answer) : answer));
    const bytes = await HttpBytes.open("/x");
    await expect(bytes.read(100_000, 100_003)).rejects.toThrow(message);
    await expect(bytes.read(100_000, 100_003)).rejects.toThrow(UserError);
    vi.unstubAllGlobals();
  });

  test("of a server without ranges, and of an empty file", async () => {
    vi.stubGlobal("fetch", async () => new Response("hello"));
    expect(new TextDecoder().decode(await (await HttpBytes.open("/x")).read(1, 3))).toBe("el");
    vi.stubGlobal("fetch", async () => new Response(null, { status: 416 }));
    expect((await HttpBytes.open("/x")).size).toBe(0);
    vi.unstubAllGlobals();
  });

  test("of a local file that was removed", async () => {
    const blob = new Blob(["abc"]);
    const bytes = new BlobBytes(blob);
    expect(await bytes.read(1, 3)).toEqual(new TextEncoder().encode("bc"));
    vi.spyOn(blob, "slice").mockReturnValue({ arrayBuffer: () => Promise.reject(new Error("NotReadableError")) } as unknown as Blob);
    await expect(bytes.read(0, 1)).rejects.toThrow(/changed, moved or deleted/);
  });
});
