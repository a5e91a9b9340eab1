"""Words that a report may repeat of what a server says: none of them is a value, a name or a secret.

Any other word is shown by its length. Words of the framework, of IIS and ASP.NET, of gateways; names of the API.
"""

# The properties of a job and of a document, and what queries are made of.
_PROPERTIES = """
ID jobID jobCategoryID categoryName jobSubCategoryID subCategoryName jobDescription clientRequestId jobStatus
jobStatusText percentCompleted responseType response publishLink publishLinkAccessScope requestURL startDate
completedDate createdDate modifiedDate purgeDateTime purgeDays canReRun CanPublish maximumDateTimeToExecuteJob
numberOfAttempts clientID DatabaseName accountCode createdBy modifiedBy rowversion documentName DownloadLink SizeInMB
Type DocumentID DocumentGUID ExpiryDate Version
"""
_QUERIES = """
and or not eq ne gt ge lt le in asc desc null true false contains startswith endswith filter orderby top skip count
select expand apply search skiptoken pagesize maxpagesize
"""
_OPTIONS = "$filter $orderby $top $skip $count $select $skiptoken $expand $apply $search $format pagesize"
_SERVERS = """
a about accepts access action activity actual after again all allow allowed allowedarithmeticoperators allowedfunctions
allowedlogicaloperators allowedorderbyproperties allowedqueryoptions allowing already also an any api apim apply are
argument arguments array as ask asp aspnet at attempt attribute authentication authorization authorized available bad
base be because been before being below between binary bind blocked body boolean both browse but by cache call called
calls can can't cannot certain change changed character characters check client close closed code collection com
compare comparison compatible complete completed complex concurrent condition configuration configured connect
connection connections constant contact contain contains content context controller convert core could couldn't create
created current data database date datetime datetimeoffset deadlock default defined denied deny depth describedby
description deserialize detail detailed details detected did didn't directory disabled disallowed do document does
doesn't don't double due duplicate each edm either element else empty enable enabled enablequery enablequeryattribute
encountered end endpoint entity enum equal error errors event exceed exceeded exceeds exception execute executed
execution exist exists expand expected expired expression external failed failure feature field fields file filtering
find first float for forbidden form format found framework from function functions gateway get given greater
greaterthan greaterthanorequal guid guids handle handler has have header headers help host html http identifier if
ignored iis illegal implemented in incoming incompatible incorrect index inner input instance int int32 int64 integer
internal into invalid is isn't issue it item items its json key keys kind known large larger later length less lessthan
lessthanorequal lexical lifetime like limit limited limits line link links list literal load local locked log logical
long longer lookup loop machine made maintenance malformed many match matching max maxanyallexpressiondepth
maxexpansiondepth maximum maxnodecount maxordebynodecount maxorderbynodecount maxskip maxtop may media member message
metadata method microsoft min minimum missing model module more most must name named names navigation nested network
next no node nodes none not notequal number object occurred odata of off on once one only open operand operands
operation operator operators option options or order other out overflow page pages parameter parameters parse parser
part path payload per permission permissions permitted please policy pool position post prefer previous primary
primitive problem process processed processing property proxy put queries query queryable queryoption querysettings
queryvalidationsettings queue quota range rate reached read reason received recognized recursion redirect reference
refused rejected related request requested requests required requires resource response rest restricted result results
retrieve retry return returned returns right rights root route row rows rule same schema scope second seconds section
secure security see segment select semantic send server service services session set setting settings should show
single size skip small so some sort source specified sql stack start started state statement status stop stopped store
string supplied support supported supports syntax system table take technical template temporarily temporary term than
that the their then there these they this throttled throttling time timed timeout timestamp to token tokens too
transaction transport try type types unable unauthorized unavailable unbound undefined under understood unexpected
unhandled unique unit unknown unrecognized unsupported until up upstream uri url use used user uses using valid
validate validated validation validator value values variable verb version via view violation wait was way web well
were what when where whether which while will with within without work write wrong you your zero
background backgroundjob bigger gone increase job jobs MaxTopValue ODataValidationSettings such withheld
BadRequest NotFound Unauthorized Forbidden AuthenticationFailed InvalidAuthenticationInfo Request_ProcessingFailed
TooManyRequests InternalServerError ServiceUnavailable RequestTimeout ExpiredAuthenticationToken InvalidToken
maxQueryStringLength maxUrlLength requestFiltering
Microsoft.AspNet.OData Microsoft.AspNetCore.OData System.Web.OData Microsoft.OData Edm.String Edm.DateTimeOffset
Edm.Int32 Edm.Int64 Edm.Guid Edm.Boolean Edm.Binary Edm.Decimal Edm.Double
"""

PROPERTIES = {name.lower(): name for name in _PROPERTIES.split()}
_OF_ERRORS = "error code message requestId target details innererror exceptionMessage exceptionType stackTrace value"
NAMES = PROPERTIES.keys() | {name.lower() for name in _OF_ERRORS.split()}  # of properties, in lower case
OPTIONS = frozenset(_OPTIONS.split())
TERMS = frozenset(_QUERIES.split()) | PROPERTIES.keys()  # in lower case, as WORDS
WORDS = frozenset(word.lower() for text in (_SERVERS, _QUERIES, _OPTIONS, _PROPERTIES) for word in text.split())
ANNOTATIONS = frozenset(
    f"@{prefix}{name}"
    for prefix in ("odata.", "")
    for name in "context count nextLink etag id editLink readLink type metadataEtag deltaLink".split()
)
MEDIA_TYPES = frozenset(
    "application/json application/problem+json application/xml application/octet-stream text/html text/plain "
    "text/xml".split()
)
HEADERS = frozenset(
    """
accept-ranges access-control-allow-origin age allow alt-svc api-supported-versions cache-control connection
content-encoding content-language content-length content-security-policy content-type date etag expires keep-alive
last-modified link location odata-version pragma preference-applied ratelimit-limit ratelimit-remaining ratelimit-reset
request-context retry-after server set-cookie strict-transport-security transfer-encoding vary via www-authenticate
x-aspnet-version x-aspnetmvc-version x-cache x-content-type-options x-frame-options x-ms-request-id x-powered-by
x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset x-request-id x-xss-protection
""".split()
)
