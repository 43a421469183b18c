{#- The instant whose knowledge this run computes, as a timestamptz expression. -#}
{% macro as_of() -%}
    {%- set given = var('as_of', none) or env_var('SKEWLESS_AS_OF', '') -%}
    {%- if not given -%}
        (
            select date_trunc('hour', max(ingested_at), 'UTC')
            from {{ source('raw', 'session_events') }}
            where {{ session_event_rejection() }} is null
        )
    {%- else -%}
        {%- set instant = utc_instant(given) -%}
        {%- do refuse_the_future(given) -%}
        {{ instant }}
    {%- endif -%}
{%- endmacro %}


{#- Rows are written once, so they are not written while what they should hold can still arrive. -#}
{% macro refuse_the_future(text) -%}
    {%- set given = modules.datetime.datetime.fromisoformat(text | string | trim) -%}
    {%- set given = given if given.tzinfo else given.replace(tzinfo=modules.pytz.utc) -%}
    {%- if given > run_started_at -%}
        {{ exceptions.raise_compiler_error(
            "as_of '" ~ text ~ "' is in the future. What will be known then is not known yet, and rows that were written "
            ~ "never change.") }}
    {%- endif -%}
{%- endmacro %}


{#- Turns an ISO 8601 text into a timestamptz literal. Without an offset it is UTC, whatever the session's zone. -#}
{% macro utc_instant(text) -%}
    {%- set text = text | string | trim -%}
    {%- if not modules.re.fullmatch('\\d{4}-\\d\\d-\\d\\d([T ]\\d\\d:\\d\\d(:\\d\\d(\\.\\d+)?)?(Z|[+-]\\d\\d(:?\\d\\d)?)?)?', text) -%}
        {{ exceptions.raise_compiler_error(
            "as_of '" ~ text ~ "' is not an instant. Write it like 2013-07-01T00:00:00 (UTC) or 2013-07-01T00:00:00+02:00.") }}
    {%- endif -%}
    {%- set has_offset = modules.re.search('[T ].*(Z|[+-]\\d\\d(:?\\d\\d)?)$', text) -%}
    {%- set full = text if ('T' in text or ' ' in text) else text ~ ' 00:00:00' -%}
    timestamptz '{{ full }}{{ "" if has_offset else "+00" }}'
{%- endmacro %}
