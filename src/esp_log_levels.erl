%% Tells C-nodes what this VM's logger lets by, so that they need not ask for each
%% event. The logger tells nobody when that changes: it is looked at once a
%% second, as long as there is a C-node to tell, and told when it has changed.
-module(esp_log_levels).

-behaviour(gen_server).

-export([start_link/0]).
-export([follow/1]).
-export([init/1]).
-export([handle_call/3]).
-export([handle_cast/2]).
-export([handle_info/2]).

-define(EVERY, 1_000).

-type levels() :: {logger:level() | all | none, [{module(), logger:level() | all | none}]}.

-record(state, {
    %% what each was told last
    told = #{} :: #{node() => levels() | nothing},
    timer :: undefined | reference()
}).

-spec start_link() -> {ok, pid()} | ignore | {error, term()}.
start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

%% @doc Of a C-node that has just been connected. Returns when it has been told,
%% which precedes whatever the caller sends there; or there is nobody to tell it.
-spec follow(node()) -> ok.
follow(CNode) ->
    try
        gen_server:call(?MODULE, {follow, CNode}, infinity)
    catch
        %% levels only advise: whoever connects does not end for want of them
        exit:_ -> ok
    end.

-spec init([]) -> {ok, #state{}}.
init([]) ->
    {ok, lists:foldl(fun({_Name, CNode}, State) -> add(CNode, State) end, #state{}, esp_nodes:all())}.

-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, term(), #state{}}.
handle_call({follow, CNode}, _From, State) when is_atom(CNode) ->
    {reply, ok, add(CNode, State)};
handle_call(Request, _From, State) ->
    {reply, {error, {unknown_request, Request}}, State}.

-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

-spec handle_info(term(), #state{}) -> {noreply, #state{}}.
handle_info({timeout, Timer, look}, State = #state{timer = Timer, told = Told}) ->
    Levels = levels(),
    Told2 = maps:map(fun(CNode, Last) -> tell(CNode, Levels, Last) end, Told),
    {noreply, start_timer(State#state{told = Told2, timer = undefined})};
handle_info({nodedown, CNode}, State = #state{told = Told}) ->
    {noreply, State#state{told = maps:remove(CNode, Told)}};
handle_info(Message, State) ->
    coop_process:log_unexpected(?MODULE, Message),
    {noreply, State}.

%% One monitor for each is enough; a node that is gone by now says so at once.
add(CNode, State = #state{told = Told}) ->
    maps:is_key(CNode, Told) orelse monitor_node(CNode, true),
    start_timer(State#state{told = Told#{CNode => tell(CNode, levels(), nothing)}}).

start_timer(State = #state{told = Told, timer = undefined}) when map_size(Told) > 0 ->
    State#state{timer = erlang:start_timer(?EVERY, self(), look)};
start_timer(State) ->
    State.

-spec levels() -> levels().
levels() ->
    #{level := Primary} = logger:get_primary_config(),
    {Primary, logger:get_module_level()}.

%% One that cannot be told now is told at the next look.
tell(_CNode, Levels, Levels) ->
    Levels;
tell(CNode, {Primary, Modules} = Levels, Last) ->
    Message = {'$coop', log_levels, Primary, Modules},
    case erlang:send({logger_proxy, CNode}, Message, [noconnect, nosuspend]) of
        ok -> Levels;
        _ -> Last
    end.
