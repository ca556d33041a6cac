/** Local files, from a picker or dropped, with the folders that they lie in. */

import endings from "./endings.json";

/** A file and its path, "/" between folders; just its name where no folder was given. */
export interface Picked {
  path: string;
  file: File;
}

const MOST = 20_000; // files; a folder that was dropped by mistake ends here
const DEEPEST = 5;
/** The endings of the files that can be opened, by kind; a test compares them with attributor/web/explore/file_kinds.py. */
export const ENDINGS: Record<"run" | "flow" | "list", readonly string[]> = endings;
/** All of them, each once. Files of other endings in folders are skipped without a message. */
export const ALL_ENDINGS: readonly string[] = [...new Set(Object.values(ENDINGS).flat())];

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

/** Whether a file in a folder is looked at; hidden ones, such as those that file managers leave, are not. */
function wanted(path: string): boolean {
  const name = path.slice(path.lastIndexOf("/") + 1);
  return ALL_ENDINGS.some((ending) => name.toLowerCase().endsWith(ending)) && !name.startsWith(".");
}
