%% The face of co-ops: make their nodes, start and stop them, send them data,
%% ask about them. Wherever a co-op is taken, its head's pid or registered name
%% is as good, and so are those of its stand-in.
-module(coop).

%% nodes of templates
-export([task/3]).
-export([native/4]).
%% life
-export([start_link/2]).
-export([child_spec/1]).
-export([clone/1]).
-export([stop/1]).
-export([stop/2]).
-export([stop/3]).
%% data
-export([relay_data/2]).
-export([relay_batch/2]).
-export([relay_high_priority_data/2]).
-export([call/3]).
-export([flush/2]).
-export([ask/2]).
%% in a task
-export([head/0]).
-export([start_node/1]).
-export([stop_node/1]).
%% questions
-export(['of'/1]).
-export([head/1]).
-export([is_live/1]).
-export([info/1]).

-type coop() :: coop_names:coop().
-type address() :: coop_names:address().
-type options() :: #{
    receiver => pid() | atom() | {atom(), node()} | coop() | {demand, pid()} | none,
    node => atom(),
    name => atom(),
    window => pos_integer(),
    max_queue => pos_integer(),
    max_queue_bytes => pos_integer(),
    overload => coop_overload:policy(),
    restart => none | body | {body, #{intensity => non_neg_integer(), period => pos_integer()}},
    dead_letter => pid() | atom() | {atom(), node()} | none,
    tag => term(),
    batch => pos_integer(),
    instances => pos_integer(),
    dataflow => dataflow(),
    stand_in => boolean(),
    modules => [module()],
    start_timeout => timeout()
}.
%% Which instance of the template a datum is for: `select' is not for these, and a
%% `hash' by a fun only where not all entry nodes are native.
-type dataflow() :: coop_dataflow:method().
-type relayed() ::
    ok | {error, overloaded | noproc | noconnection | too_large | {not_started, erlangsp}}.
-export_type([coop/0, address/0, options/0, relayed/0]).

%% A batch is sent in parts of about so many bytes, each with credit of its own.
-define(BATCH_BYTES, 32 * 1024).
-define(TIMEOUT, 5_000).

%% @doc A node that runs an Erlang task. See {@link coop_flow} for templates.
-spec task(coop_flow:name(), coop_flow:task(), coop_flow:task_options()) -> coop_flow:node_spec().
task(Name, Task, Options) ->
    coop_flow:task(Name, Task, Options).

%% @doc A node that runs a task of a C++ plugin.
-spec native(coop_flow:name(), coop_flow:plugin(), atom(), coop_flow:native_options()) ->
    coop_flow:node_spec().
native(Name, Plugin, Task, Options) ->
    coop_flow:native(Name, Plugin, Task, Options).

%%% Life

%% @doc Starts a co-op. The pid is its head, or with `stand_in' a process of this
%% VM that stands for it; it is linked to the caller. Every mistake
%% in the template is an error that names the node, before anything is started;
%% a start that fails leaves nothing behind. With native nodes it waits, for
%% `start_timeout' at most, for a C-node that is just being restarted.
-spec start_link(coop_flow:template() | coop_flow:error(), options()) ->
    {ok, pid()} | {error, term()}.
start_link({error, _} = Error, _Options) ->
    Error;
start_link(Template, #{stand_in := true} = Options) ->
    coop_stand_in:start_link(Template, Options);
start_link(Template, Options) ->
    case coop_start:start_link(Template, Options) of
        {ok, Head, #{name := Name}} ->
            ok = coop_names:add(Head, Name, {Template, Options}),
            {ok, Head};
        {error, _} = Error ->
            Error
    end.

%% @doc A co-op as a supervisor's child. `restart', `shutdown' and
%% `significant' are the supervisor's; what is left is for {@link start_link/2}. With
%% `modules' the two say the same: a change of one of these is the co-op's, besides
%% that of its plugins and its tasks' modules, which a supervisor asks it for else.
-spec child_spec(#{id := term(), template := coop_flow:template(), _ => _}) ->
    supervisor:child_spec().
child_spec(#{id := Id, template := Template} = All) ->
    {Supervisor, Options} = maps:fold(
        fun(Key, Value, {A, B}) ->
            case is_supervisors(Key, Value) of
                true -> {A#{Key => Value}, B};
                false -> {A, B#{Key => Value}}
            end
        end,
        {#{}, #{}},
        maps:without([id, template], All)
    ),
    maps:merge(
        #{
            id => Id,
            start => {?MODULE, start_link, [Template, Options]},
            type => worker,
            modules => maps:get(modules, Options, dynamic)
        },
        Supervisor
    ).

is_supervisors(restart, Value) -> lists:member(Value, [permanent, transient, temporary]);
is_supervisors(Key, _Value) -> lists:member(Key, [shutdown, significant]).

%% @doc Another co-op of the same template and options, but without a name.
-spec clone(address()) -> {ok, pid()} | {error, term()}.
clone(Coop) ->
    case coop_names:origin(head(Coop)) of
        {ok, {Template, Options}} -> start_link(Template, maps:remove(name, Options));
        error -> {error, noproc}
    end.

-spec stop(address()) -> ok.
stop(Coop) ->
    stop(Coop, normal, infinity).

-spec stop(address(), Reason :: term()) -> ok.
stop(Coop, Reason) ->
    stop(Coop, Reason, infinity).

%% @doc Ends a co-op and waits until it is gone, body first; exits as
%% `gen_server:stop/3' does.
-spec stop(address(), Reason :: term(), timeout()) -> ok.
stop(Coop, Reason, Timeout) ->
    case coop_names:head(Coop) of
        undefined -> exit(noproc);
        Head -> proc_lib:stop(Head, Reason, Timeout)
    end.

%%% Data

%% @doc Sends a datum, waiting for credit if there is none, unless the co-op has
%% `overload => shed': then it is `{error, overloaded}'. `ok' says that it was
%% sent, not that it was processed.
-spec relay_data(address(), term()) -> relayed().
relay_data(Coop, Datum) ->
    relay(Coop, relay, [], Datum, infinity).

%% @doc Ahead of all data that wait at the head, by credit of its own.
-spec relay_high_priority_data(address(), term()) -> relayed().
relay_high_priority_data(Coop, Datum) ->
    relay(Coop, priority, [], Datum, infinity).

relay(Coop, Lane, Env, Datum, Timeout) ->
    case {coop_names:head(Coop), coop_credit:cost(Datum)} of
        {undefined, _} -> {error, noproc};
        {Head, {ok, Cost}} -> coop_credit:send(Head, Lane, Env, [{Datum, Cost}], Timeout);
        {_, {error, _} = Error} -> Error
    end.

%% @doc Sends data in order, with credit for many of them at once, and in as few
%% messages.
%% After an error those ahead of the one that it is about may have been sent.
-spec relay_batch(address(), [term()]) -> relayed().
relay_batch(Coop, Data) ->
    case coop_names:head(Coop) of
        undefined -> {error, noproc};
        Head -> relay_parts(Head, Data, [], 0)
    end.

relay_parts(_Head, [], [], _Bytes) ->
    ok;
relay_parts(Head, [], Part, _Bytes) ->
    send_part(Head, Part);
relay_parts(Head, [Datum | Rest] = Data, Part, Bytes) ->
    case coop_credit:cost(Datum) of
        {ok, Cost} when Part =:= []; Bytes + Cost =< ?BATCH_BYTES ->
            relay_parts(Head, Rest, [{Datum, Cost} | Part], Bytes + Cost);
        {ok, _Cost} ->
            case send_part(Head, Part) of
                ok -> relay_parts(Head, Data, [], 0);
                Error -> Error
            end;
        {error, _} = Error ->
            Error
    end.

send_part(Head, Part) ->
    coop_credit:send(Head, relay, [], lists:reverse(Part), infinity).

%% @doc Sends a datum and waits for the first result made of it that leaves the
%% co-op. Neither that nor a later one goes to the receiver.
-spec call(address(), term(), timeout()) -> {ok, Result :: term()} | {error, Reason :: term()}.
call(Coop, Datum, Timeout) ->
    case coop_names:head(Coop) of
        undefined -> {error, noproc};
        Head -> call_head(Head, Datum, deadline(Timeout))
    end.

-dialyzer({no_improper_lists, call_head/3}).
call_head(Head, Datum, Deadline) ->
    Alias = monitor(process, Head, [{alias, reply_demonitor}]),
    Tag = [alias | Alias],
    case relay(Head, relay, #{call => {self(), Tag}}, Datum, left(Deadline)) of
        ok ->
            receive
                {Tag, Result} -> result(Result);
                {'DOWN', Alias, process, _, Reason} -> {error, Reason}
            after left(Deadline) ->
                demonitor(Alias, [flush]),
                receive
                    {Tag, Result} -> result(Result)
                after 0 ->
                    %% a head that might keep it in mind may forget it
                    Head ! {'$coop', replied, {self(), Tag}},
                    {error, timeout}
                end
            end;
        {error, _} = Error ->
            demonitor(Alias, [flush]),
            Error
    end.

%% The co-op may have lost the datum.
result({'$coop', error, Reason}) -> {error, Reason};
result(Result) -> {ok, Result}.

deadline(infinity) -> infinity;
deadline(Timeout) -> erlang:monotonic_time(millisecond) + Timeout.

left(infinity) -> infinity;
left(Deadline) -> max(0, Deadline - erlang:monotonic_time(millisecond)).

%% @doc Waits until everything that was sent to the co-op before, by this
%% process, has left it. If the caller is the receiver, it has all results.
-spec flush(address(), timeout()) -> ok | {error, Reason :: term()}.
flush(Coop, Timeout) ->
    case coop_names:head(Coop) of
        undefined ->
            {error, noproc};
        Head ->
            %% what it waits for belongs to no trace
            coop_token:aside(fun() -> flush_head(Head, deadline(Timeout)) end)
    end.

flush_head(Head, Deadline) ->
    Monitor = monitor(process, Head),
    Head ! {'$coop', flush, {self(), Monitor}},
    Result = await_marks(Monitor, 1, Deadline),
    demonitor(Monitor, [flush]),
    Result.

%% Each node of the last tier sends a mark; each mark says how many there are.
await_marks(Ref, Seen, Deadline) ->
    receive
        {'$coop', flushed, Ref, Total} when Seen >= Total -> ok;
        {'$coop', flushed, Ref, _Total} -> await_marks(Ref, Seen + 1, Deadline);
        {'$coop', restarted, Ref, Reason} -> {error, {restarted, Reason}};
        {'DOWN', Ref, process, _, Reason} -> {error, Reason}
    after left(Deadline) -> {error, timeout}
    end.

%% @doc Asks for so many results, beyond those asked for before, of a co-op whose
%% receiver is `{demand, Pid}'; they go to Pid, as soon as they are there. Until
%% then, results wait in the last tier, and with them a flush.
-spec ask(address(), pos_integer()) -> ok | {error, noproc}.
ask(Coop, N) when is_integer(N), N > 0 ->
    case coop_names:head(Coop) of
        undefined ->
            {error, noproc};
        Head ->
            Head ! {'$coop', ask, N},
            ok
    end.

%%% In a task

%% @doc The head of the co-op that the calling task is of, for data of its own. A
%% task that waits for credit of its own co-op may wait for itself.
-spec head() -> pid().
head() ->
    coop_node:head().

%% @doc Starts a node of the co-op from a task of it, on the same VM; returns when
%% its init has run. It gets what the task sends it, `{State, to, [{Pid, Datum}]}',
%% with credit and in order, and what others send to its pid; its results go where
%% those of this node go. It is a member of the co-op: it ends with it, {@link
%% flush/2} waits for it, and it takes the co-op along if it ends with another
%% reason than `normal'. Its name, for logs, need not be unique. Errors:
%% `{bad_node, Name, Cause}' and `{init, Name, Reason}' as of {@link start_link/2};
%% `{unsupported, restart}' in a co-op with `restart => body', `{unsupported,
%% consume}' in a router by `consume'.
-spec start_node(coop_flow:node_spec()) -> {ok, pid()} | {error, term()}.
start_node(NodeSpec) ->
    coop_node:start_late(NodeSpec).

%% @doc Ends a node that the calling task has started, in order: after all that it
%% was sent, this call's results among it, and its flush.
-spec stop_node(pid()) -> ok.
stop_node(Pid) ->
    coop_node:stop_late(Pid).

%%% Questions

%% @doc The handle of a co-op. (`of' is a word of Erlang's own: it takes quotes.)
-spec 'of'(address()) -> coop().
'of'(Address) ->
    case coop_names:handle(Address) of
        undefined -> error(badarg);
        Coop -> Coop
    end.

%% @doc The head. On another VM, that of a co-op with a stand-in is the stand-in.
-spec head(address()) -> pid().
head(Coop) ->
    case coop_names:head(Coop) of
        undefined -> error(badarg);
        Pid -> coop_names:behind(Pid)
    end.

-spec is_live(address()) -> boolean().
is_live(Coop) ->
    case coop_names:head(Coop) of
        undefined ->
            false;
        Head when node(Head) =:= node() ->
            is_process_alive(Head);
        Head ->
            try coop_process:ask(Head, head, ?TIMEOUT) of
                Answer -> is_pid(Answer)
            catch
                exit:_ -> false
            end
    end.

%% @doc What the head knows: see `info' in doc/messages.md.
-spec info(address()) -> map().
info(Coop) ->
    Pid = coop_names:head(Coop),
    Info = coop_process:ask(Pid, info, ?TIMEOUT),
    case is_pid(Pid) andalso coop_names:behind(Pid) of
        Pid -> Info;
        _Head -> Info#{stand_in => coop_stand_in:info(Pid)}
    end.
