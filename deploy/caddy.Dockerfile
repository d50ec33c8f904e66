# Caddy with Portner in it, built by the same xcaddy.sh as everywhere else.
FROM golang:1.26.8 AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 ./xcaddy.sh && \
    CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/healthcheck ./deploy/healthcheck
# A volume takes over the owner of the folder it is mounted on.
RUN mkdir /data

# Nothing else is in the image: no shell, no package manager.
FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /src/bin/caddy /src/bin/healthcheck /bin/
COPY --from=build /src/Caddyfile /etc/caddy/Caddyfile
COPY --from=build --chown=65532:65532 /data /data
# Caddy's data (certificates, later the journal) is at /data/caddy.
ENV XDG_DATA_HOME=/data XDG_CONFIG_HOME=/data/config
USER 65532:65532
ENTRYPOINT ["/bin/caddy"]
CMD ["run", "--config", "/etc/caddy/Caddyfile", "--adapter", "caddyfile"]
