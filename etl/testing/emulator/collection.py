"""The job collection: read a query, check what is allowed, find the rows, show them as a page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from etl.testing.emulator.compression import accepts_gzip, make_bomb
from etl.testing.emulator.faults import BOMB, POISONED, TOO_MANY_ROWS
from etl.testing.emulator.odata_parser import Dialect, read_query, split_query
from etl.testing.emulator.odata_query import BadQuery, Query
from etl.testing.emulator.ordering import choose_key, complete_order
from etl.testing.emulator.paging import choose_page_size, service_root, write_next_link
from etl.testing.emulator.query_executor import Found, find
from etl.testing.emulator.refusals import answer_bad_query, check_options, check_query
from etl.testing.emulator.requests import Call
from etl.testing.emulator.responses import Answer, html_page, page, server_error
from etl.testing.emulator.service_options import ServiceOptions
from etl.testing.emulator.skip_tokens import apply_skip_token
from etl.testing.emulator.sql_datetime import Comparison
from etl.testing.emulator.table import Table
from etl.testing.emulator.value_forms import RowRenderer

_KEYS = frozenset({"ID", "jobID"})


@dataclass(frozen=True, slots=True)
class CollectionRules:
    """How the collection is served. The fields are keywords of `Emulator`."""

    page_size: int
    comparison: Comparison
    ignore: frozenset[str]
    refuse: frozenset[str]
    options: ServiceOptions


def answer_collection(call: Call, table: Table, renderer: RowRenderer, rules: CollectionRules) -> Answer:
    """Return the answer to a query over the committed rows."""
    options = rules.options
    try:
        asked = split_query(call.request.raw_query)
        size = choose_page_size(asked, call.prefer, rules.page_size, options, rules.ignore)
        query = _read(asked, table, rules)
        found = find(table, query, size.rows, rules.comparison)
    except BadQuery as bad:
        return answer_bad_query(bad, options.refusal_words)
    if (failure := _fail(found, query, options)) is not None:
        return failure
    is_minimal = _is_minimal(call, options)
    link = write_next_link(call.base, asked, query, size, found, options)
    render = renderer.choose(table, is_minimal=is_minimal)
    rows = [render(job, query.select) for job in found.rows]
    context = f"{service_root(call.base, options.next_link)}$metadata#backgroundjob"
    answer = page(context, rows, found.count, link, size.preferred, is_minimal)
    if options.bomb and accepts_gzip(call.request.headers.get("accept-encoding", "")):
        return replace(make_bomb(answer, options.bomb), fault=BOMB)
    return answer


def _read(asked: Mapping[str, str], table: Table, rules: CollectionRules) -> Query:
    options = rules.options
    heeded = {name: value for name, value in asked.items() if name.lstrip("$") not in rules.ignore}
    check_options(heeded, options.refused)
    dialect = Dialect(options.max_nodes, options.node_cost, options.property_names)
    query = read_query(heeded, table.properties, dialect)
    check_query(query, options.refused | rules.refuse, options.unsortable)
    order = complete_order(query.orderby, options.default_order, choose_key(table.properties, options.next_link_by))
    return apply_skip_token(replace(query, orderby=order), options.next_link_by)


def _fail(found: Found, query: Query, options: ServiceOptions) -> Answer | None:
    """Return the failure in place of rows that the service can't serve."""
    if options.most_rows is not None and len(found.rows) > options.most_rows:
        answer = html_page(504) if options.too_many_rows == "504" else server_error()
        return replace(answer, fault=TOO_MANY_ROWS)
    are_spared = options.poison_spares_keys and query.select and _KEYS.issuperset(query.select)
    if options.poisoned and not are_spared and any(map(options.is_poisoned, found.rows)):
        return replace(server_error(), fault=POISONED)
    return None


def _is_minimal(call: Call, options: ServiceOptions) -> bool:
    """Return whether annotations are named as in OData 4.01."""
    highest = call.request.headers.get("odata-maxversion", "").strip()
    return options.odata_version == "minimal-4.01" or (options.odata_version == "4.01" and highest != "4.0")
