# The news application: one static binary.
FROM golang:1.26.8 AS build
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod \
    --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o bin/webapp ./webapp
# A volume takes over the owner of the folder it is mounted on.
RUN mkdir /data

# Nothing else is in the image: no shell, no package manager.
FROM scratch
COPY --from=build /src/bin/webapp /bin/webapp
COPY --from=build --chown=65532:65532 /data /data
ENV WEBAPP_LISTEN=:5001 WEBAPP_DB=/data/news.db
USER 65532:65532
ENTRYPOINT ["/bin/webapp"]
