/** Local files, from a picker or dropped, with the folders that they lie in. */

/** A file and its path, "/" between folders; just its name where no folder was given. */
export interface Picked {
  path: string;
  file: File;
}

const MOST = 20_000; // files; a folder that was dropped by mistake ends here
const DEEPEST = 5;
/** What is looked at in folders; everything else there is nobody's mistake. */
const INTERESTING = /\.(jsonl?|safetensors)$/i;

/** What a file input holds. */
export function ofInput(files: FileList | null): Picked[] {
  const all = [...(files ?? [])].slice(0, MOST);
  return all
    .map((file) => ({ path: file.webkitRelativePath || file.name, file }))
    .filter(({ path }) => !path.includes("/") || wanted(path));
}

/** What was dropped: files as they are, folders with what is in them. */
export async function ofDrop(data: DataTransfer): Promise<Picked[]> {
  // Entries must be taken before the first wait: the list is empty afterwards.
  const entries = [...data.items].filter((item) => item.kind === "file").map((item) => [item.webkitGetAsEntry?.() ?? null, item.getAsFile()] as const);
  const found: Picked[] = [];
  for (const [entry, file] of entries) {
    if (entry?.isDirectory) await walk(entry as FileSystemDirectoryEntry, entry.name, found, 0);
    else if (file !== null) found.push({ path: file.name, file });
  }
  return found;
}

async function walk(folder: FileSystemDirectoryEntry, path: string, found: Picked[], depth: number): Promise<void> {
  const reader = folder.createReader();
  for (;;) {
    // Browsers give a hundred entries at a time, and none when all were given.
    const entries = await new Promise<FileSystemEntry[]>((resolve, reject) => reader.readEntries(resolve, reject));
    if (entries.length === 0) return;
    for (const entry of entries) {
      if (found.length >= MOST) return;
      const inner = `${path}/${entry.name}`;
      if (entry.isDirectory && depth < DEEPEST) await walk(entry as FileSystemDirectoryEntry, inner, found, depth + 1);
      else if (entry.isFile && wanted(inner)) found.push({ path: inner, file: await fileOf(entry as FileSystemFileEntry) });
    }
  }
}

function fileOf(entry: FileSystemFileEntry): Promise<File> {
  return new Promise((resolve, reject) => entry.file(resolve, reject));
}

/** Hidden files are nobody's, among them those that file managers leave. */
function wanted(path: string): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return INTERESTING.test(name) && !name.startsWith(".");
}
