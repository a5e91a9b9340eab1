-- Question: which failures have the same cause?
-- Returns:  text: the status in words with what differs from job to job taken out. Quoted names become '…', words with
--           a digit in them (numbers, dates, ids, style codes) #, and any white space one blank. NULL for no text.
CREATE OR REPLACE FUNCTION bi.cause_of(status_text text)
RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN nullif(btrim(
    regexp_replace(
        regexp_replace(
            regexp_replace(
                regexp_replace(
                    status_text,
                    -- an apostrophe inside of a word, as in can't, opens no quotation
                    '(?<!\w)''[^'']*''(?!\w)|"[^"]*"|“[^”]*”|„[^“”]*[“”]|«[^»]*»|`[^`]*`', '''…''', 'g'
                ),
                '[\w.,:/-]*\d[\w.,:/-]*', '#', 'g'
            ),
            '#(\s+#)+', '#', 'g'
        ),
        '\s+', ' ', 'g'
    )
), '');

COMMENT ON FUNCTION bi.cause_of(text) IS
'A status in words without numbers and quoted names, so that failures of one cause meet; NULL for no text.';
