%% The co-ops that were started on this VM: their names, which for a head on a
%% C-node the VM's own registry cannot hold, and what they were made of.
-module(coop_names).

-behaviour(gen_server).

-export([start_link/0]).
-export([add/3]).
-export([add_stand_in/5]).
-export([handle/1]).
-export([head/1]).
-export([behind/1]).
-export([origin/1]).
-export([started/3]).
-export([ended/3]).
-export([former/2]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

%% {Pid, Name, Origin, Head}: of the head itself, or of one that stands for it
-define(CO_OPS, coop_names).
%% {Name, Head}
-define(NAMES, coop_names_by_name).
%% {Key, Switch, Head}: of each start with its switch, while that lives; or of a
%% stand-in, in the place of Head, with all that ends behind it
-define(SWITCHES, coop_names_switches).

-opaque coop() :: {'$coop', Head :: pid()}.
-type address() :: coop() | pid() | atom() | {atom(), node()}.
-export_type([coop/0, address/0]).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Remembers a co-op for as long as its head lives.
-spec add(pid(), atom() | undefined, Origin :: term()) -> ok.
add(Head, Name, Origin) ->
    gen_server:call(?MODULE, {add, Head, Name, Origin}, infinity).

%% @doc Remembers a process that stands for a co-op; until those of Behind have
%% ended, its next start waits.
-spec add_stand_in(pid(), Head :: pid(), Origin :: term(), Key :: term(), Behind :: [pid()]) -> ok.
add_stand_in(StandIn, Head, Origin, Key, Behind) ->
    gen_server:call(?MODULE, {add_stand_in, StandIn, Head, Origin, Key, Behind}, infinity).

%% @doc The handle of a co-op, by its head's pid or name.
-spec handle(address()) -> coop() | undefined.
handle(Address) ->
    case head(Address) of
        undefined -> undefined;
        Head -> {'$coop', Head}
    end.

%% @doc The head; `undefined' if the name has no bearer.
-spec head(address()) -> pid() | undefined.
head(Pid) when is_pid(Pid) -> Pid;
head({'$coop', Head}) -> Head;
head({Name, Node}) when Node =:= node() -> head(Name);
head({Name, Node}) when is_atom(Name), is_atom(Node) -> remote_head({Name, Node});
head(Name) when is_atom(Name) ->
    case whereis(Name) of
        Pid when is_pid(Pid) -> Pid;
        _ -> named(Name)
    end.

named(Name) ->
    try ets:lookup(?NAMES, Name) of
        [{Name, Head}] -> Head;
        [] -> undefined
    catch
        error:badarg -> undefined
    end.

remote_head(Name) ->
    try
        {ok, Head} = gen:call(Name, '$coop', head, 5000),
        Head
    catch
        exit:_ -> undefined
    end.

%% @doc The head that a process of this VM stands for, or else the process itself.
-spec behind(pid()) -> pid().
behind(Pid) ->
    try ets:lookup(?CO_OPS, Pid) of
        [{Pid, _Name, _Origin, Head}] -> Head;
        [] -> Pid
    catch
        error:badarg -> Pid
    end.

-spec origin(pid()) -> {ok, term()} | error.
origin(Head) ->
    try ets:lookup(?CO_OPS, Head) of
        [{Head, _Name, Origin, _Behind}] -> {ok, Origin};
        [] -> error
    catch
        error:badarg -> error
    end.

%%% Kill switches, noted by themselves

-spec started(Key :: term(), Switch :: pid(), Head :: pid()) -> ok.
started(Key, Switch, Head) ->
    ets:insert(?SWITCHES, {Key, Switch, Head}),
    ok.

-spec ended(Key :: term(), Switch :: pid(), Head :: pid()) -> ok.
ended(Key, Switch, Head) ->
    try ets:delete_object(?SWITCHES, {Key, Switch, Head}) of
        true -> ok
    catch
        %% the application has stopped
        error:badarg -> ok
    end.

%% @doc Waits, at most so many milliseconds, until nothing is left of those
%% co-ops of this key whose head is gone.
-spec former(Key :: term(), timeout()) -> ok.
former(Key, Timeout) ->
    Gone = [Former || {_, _, Head} = Former <- ets:lookup(?SWITCHES, Key), not is_alive(Head)],
    lists:foreach(fun(Former) -> await_end(Former, Timeout) end, Gone).

%% A head on a C-node ends after its switches.
is_alive(Head) when node(Head) =:= node() -> is_process_alive(Head);
is_alive(_Head) -> true.

await_end({Key, Switch, Head}, Timeout) ->
    Ref = monitor(process, Switch),
    receive
        {'DOWN', Ref, process, _, _} -> ended(Key, Switch, Head)
    after Timeout -> demonitor(Ref, [flush])
    end,
    ok.

%%% The server

%% What ends behind a stand-in, by monitor.
-type state() :: #{reference() => {Key :: term(), pid(), StandIn :: pid()}}.

-spec init([]) -> {ok, state()}.
init([]) ->
    ?CO_OPS = ets:new(?CO_OPS, [named_table, protected, {read_concurrency, true}]),
    ?NAMES = ets:new(?NAMES, [named_table, protected, {read_concurrency, true}]),
    ?SWITCHES = ets:new(?SWITCHES, [named_table, public, bag, {write_concurrency, true}]),
    {ok, #{}}.

-spec handle_call(term(), gen_server:from(), state()) -> {reply, ok | {error, term()}, state()}.
handle_call({add, Head, Name, Origin}, _From, State) ->
    monitor(process, Head),
    ets:insert(?CO_OPS, {Head, Name, Origin, Head}),
    %% a head of this VM is registered with the VM
    Name =:= undefined orelse node(Head) =:= node() orelse ets:insert(?NAMES, {Name, Head}),
    {reply, ok, State};
handle_call({add_stand_in, StandIn, Head, Origin, Key, Behind}, _From, State) ->
    monitor(process, StandIn),
    ets:insert(?CO_OPS, {StandIn, undefined, Origin, Head}),
    Entries = [{Key, Pid, StandIn} || Pid <- Behind],
    ets:insert(?SWITCHES, Entries),
    Watched = maps:from_list([{monitor(process, Pid), E} || {_, Pid, _} = E <- Entries]),
    {reply, ok, maps:merge(State, Watched)};
handle_call(Request, _From, State) ->
    {reply, {error, {unknown_request, Request}}, State}.

-spec handle_cast(term(), state()) -> {noreply, state()}.
handle_cast(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

-spec handle_info(term(), state()) -> {noreply, state()}.
handle_info({'DOWN', Ref, process, _, _Reason}, State) when is_map_key(Ref, State) ->
    {Entry, State2} = maps:take(Ref, State),
    ets:delete_object(?SWITCHES, Entry),
    {noreply, State2};
handle_info({'DOWN', _Ref, process, Head, _Reason}, State) ->
    case ets:take(?CO_OPS, Head) of
        %% the name may have a new bearer already
        [{Head, Name, _Origin, _Behind}] -> ets:delete_object(?NAMES, {Name, Head});
        [] -> ok
    end,
    {noreply, State};
handle_info(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.
