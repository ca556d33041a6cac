import { defineConfig } from "vitest/config";

const SERVER = "http://localhost:3000";

/** The modules that src/main.tsx imports: the shell, a case, sharing. */
const inApp = /\/src\/(main|api\/|case\/|canvas\/minimap|model\/(?!flow|segments)|share\/|ui\/)|\/node_modules\/(preact|@preact)\/|preload-helper/;

// Names without hashes: the bundle is committed, and a page that is exported holds app.js and app.css whole.
export default defineConfig({
  base: "/static/",
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    outDir: process.env.WEBAPP_OUT ?? "../attributor/web/static",
    emptyOutDir: true,
    target: "es2022",
    modulePreload: false,
    assetsInlineLimit: 0,
    rollupOptions: {
      output: {
        entryFileNames: "entry.js", // never written: the group below takes it in
        chunkFileNames: (chunk) => `${chunk.name.toLowerCase()}.js`,
        assetFileNames: (asset) => asset.names[0].toLowerCase(),
        // What a case needs lies in app.js, all of it: an exported page has no other file.
        advancedChunks: { groups: [{ name: "app", test: inApp }] },
      },
    },
  },
  // The program lets only its own pages in: to it, this one must look like them.
  server: { proxy: { "/api": { target: SERVER, changeOrigin: true, headers: { origin: SERVER } } } },
  test: { environment: "happy-dom", include: ["tests/**/*.test.{ts,tsx}"] },
});
