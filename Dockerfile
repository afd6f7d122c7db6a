# syntax=docker/dockerfile:1
# Two images from one file: `docker build --target cpu .` and `docker build --target cuda .`
ARG NODE_VERSION=24
ARG CUDA_VERSION=13.0.0

# Everything that is compiled is compiled here; compilers stay behind.
FROM node:${NODE_VERSION}-bookworm AS build
WORKDIR /app
COPY package.json package-lock.json .npmrc tsconfig.json tsconfig.build.json ./
COPY scripts ./scripts
COPY native ./native
COPY engine ./engine
COPY server ./server
COPY test/native ./test/native
RUN npm ci && npm prune --omit=dev \
    # onnxruntime-node comes with its libraries for every platform.
    && cd node_modules/onnxruntime-node/bin/napi-v6 && rm -rf darwin win32 \
    && find linux -mindepth 1 -maxdepth 1 ! -name "$(node -p process.arch)" -exec rm -r {} +

FROM node:${NODE_VERSION}-bookworm-slim AS node

FROM node AS cpu
WORKDIR /app
ENV NODE_ENV=production QUIRE_HOST=0.0.0.0 HF_HOME=/cache
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/native/build/Release/quire.node ./native/build/Release/quire.node
COPY models ./models
COPY docker/healthcheck.mjs ./docker/healthcheck.mjs
RUN mkdir -p /cache /models && chown node:node /cache /models
USER node
VOLUME ["/cache", "/models"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["node", "docker/healthcheck.mjs"]
ENTRYPOINT ["node", "dist/server/cli.js", "serve"]

FROM nvidia/cuda:${CUDA_VERSION}-runtime-ubuntu24.04 AS cuda
COPY --from=node /usr/local/bin/node /usr/local/bin/node
WORKDIR /app
ENV NODE_ENV=production QUIRE_HOST=0.0.0.0 HF_HOME=/cache
COPY --from=build /app/package.json ./
COPY --from=build /app/node_modules ./node_modules
COPY --from=build /app/dist ./dist
COPY --from=build /app/native/build/Release/quire.node ./native/build/Release/quire.node
COPY models ./models
COPY docker/healthcheck.mjs ./docker/healthcheck.mjs
RUN useradd --create-home node && mkdir -p /cache /models && chown node:node /cache /models
USER node
VOLUME ["/cache", "/models"]
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s CMD ["node", "docker/healthcheck.mjs"]
ENTRYPOINT ["node", "dist/server/cli.js", "serve"]
