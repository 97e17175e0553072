import { fileURLToPath } from "node:url";

import { defineConfig } from "vite";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));

// `tools/console.py` runs the build and says where it goes.
export default defineConfig({
  base: "/console/",
  resolve: {
    alias: [
      { find: /^jitaccess$/, replacement: here("../typescript/src/index.ts") },
      { find: /^contract\//, replacement: here("../typescript/src/gen/") },
    ],
    // The client in clients/typescript is built with the console's own packages, so each is there once.
    dedupe: ["@bufbuild/protobuf", "@connectrpc/connect", "@connectrpc/connect-web", "openapi-fetch"],
  },
  build: {
    target: "es2022",
    // The page must hold no code of its own, and no file as text in it.
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    // The notices of the packages that are in the build.
    license: { fileName: "licences.md" },
    emptyOutDir: true,
    rolldownOptions: { input: here("console.html") },
  },
});
