# docker build -t aims360-etl .          docs/schedule.md says how it is run
# The wheel is built and installed in a stage of its own; what runs is Python, the program, and nothing that builds.
ARG PYTHON_VERSION=3.13

FROM python:${PYTHON_VERSION}-slim AS build
WORKDIR /src
RUN python -m venv /opt/build && python -m venv /opt/aims360-etl
COPY deploy/pins.txt deploy/pins-build.txt deploy/
RUN /opt/build/bin/python -m pip install --no-cache-dir --require-hashes -r deploy/pins-build.txt
RUN /opt/aims360-etl/bin/python -m pip install --no-cache-dir --require-hashes -r deploy/pins.txt
COPY pyproject.toml README.md ./
COPY etl etl
COPY migrations migrations
COPY sql sql
RUN /opt/build/bin/python -m hatchling build -t wheel -d wheel
RUN /opt/aims360-etl/bin/python -m pip install --no-cache-dir --no-index --no-deps wheel/*.whl
RUN /opt/aims360-etl/bin/python -m pip check

FROM python:${PYTHON_VERSION}-slim
COPY --from=build /opt/aims360-etl /opt/aims360-etl
ENV PATH=/opt/aims360-etl/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# Where aims360.toml is looked for; nothing is ever written there, nor anywhere else.
WORKDIR /etc/aims360-etl
USER 65532:65532
EXPOSE 9363
# Whether the service's loop lives (docs/watch.md, "Probes"): not whether the mirror is fresh, which a restart doesn't change.
HEALTHCHECK --interval=30s --timeout=10s --start-period=2m --retries=3 CMD ["python", "-c", "import http.client as h; c = h.HTTPConnection('127.0.0.1', 9363, timeout=8); c.request('GET', '/healthz'); exit(c.getresponse().status != 200)"]
ENTRYPOINT ["aims360-etl"]
CMD ["sync", "--every", "60s", "--metrics-port", "9363", "--metrics-host", "0.0.0.0"]
